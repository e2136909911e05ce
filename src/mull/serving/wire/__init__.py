"""What goes over the wire: bodies of requests, replies, chunks of a stream, errors."""
