"""Messages to bytes and back: msgpack, sealing and limits."""
