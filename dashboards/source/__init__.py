"""What the dashboards and rules are generated from: one file a dashboard, `rules.py` for Prometheus."""
