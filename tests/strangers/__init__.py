"""Networks that strangers published, and how their authors use them."""
