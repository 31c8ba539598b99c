"""The sample data set: made-up scenes for the demo and the tests."""
