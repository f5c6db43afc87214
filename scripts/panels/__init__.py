"""What the Grafana dashboards show: their panels, and the queries behind them. dashboards.py makes JSON of them."""
