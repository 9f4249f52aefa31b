"""A full fine-tune of all-MiniLM-L6-v2 on real text: what a healthy change looks like."""
