"""Looking at data, predictions and models before and after training."""
