"""How good a separation is: metrics, oracles, aggregation over songs, statistical tests."""
