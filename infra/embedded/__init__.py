"""What `./dev up` starts when no URL is set: PostgreSQL, Valkey, and the supervisor over them."""
