"""HTTP/1.1 heads, framing, cookies and hop-by-hop fields."""
