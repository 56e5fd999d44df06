from tests.integration.local_ray import local_ray, ray_address, ray_at_hand
from tests.integration.s3_server import s3_keys, s3_server

__all__ = ["local_ray", "ray_address", "ray_at_hand", "s3_keys", "s3_server"]
