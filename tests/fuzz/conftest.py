from tests.service.conftest import make_service, service  # noqa: F401
