"""A family of small Llama models of growing width, trained to test the width law of AdamW."""
