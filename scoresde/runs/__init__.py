"""Folders of results: held by one run at a time, whole or not there, gone on with where they were left."""
