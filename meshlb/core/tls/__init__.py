"""What can be said of TLS without a socket: names, tickets, the first message."""
