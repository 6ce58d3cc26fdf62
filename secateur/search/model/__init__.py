"""The model of the loss that proposes candidates."""
