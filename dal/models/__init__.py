"""Networks split into features and head, and the LightningModule that trains them."""
