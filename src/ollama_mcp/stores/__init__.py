"""Stores: what outlives the process, in a folder of SQLite files or in PostgreSQL.

A store keeps and finds; what is kept, and for whom, is decided by the services.
"""
