"""What is written as it stands: texts of plugins and of users, and modules written by these."""
