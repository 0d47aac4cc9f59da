"""What is known of each function that a forward may call, its channels first of all."""
