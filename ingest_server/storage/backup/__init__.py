"""Logical backups of the schema iot_service: a folder of compressed COPY files and a manifest."""
