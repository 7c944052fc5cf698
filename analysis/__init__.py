"""Measures of finished runs: Hessian, excess risk, summary, plots, report."""
