"""Inputs on which conclusions were once wrong, asked again: what is said today, what is right."""
