"""Time series and their forecasting."""
