"""The chassis: everything that is true of all three services."""
