"""What is changed in a traced graph before it is written."""
