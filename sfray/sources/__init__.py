"""The bytes of videos: local, S3, web and Google, whole or by range."""
