"""From opened models and what an analyzer takes to what will be read."""
