"""Tests mirror the source: tchatd/a/b.py is tested by tests/unit/a/test_b.py."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE, UNIT = ROOT / "tchatd", ROOT / "tests" / "unit"
# Of other packages than tchatd; their folders mirror those.
OTHER_PACKAGES = ("tchatd_ext", "bench")
# Source without a test file of its own, and why.
UNTESTED = {
    "__main__.py": "two lines; every test of a real daemon runs it",
    "app/exits.py": "constants; app/test_cli.py holds them against the help",
    "domains/bots/routes.py": "declarations; tests/contract asks every route",
    "domains/bots/errors.py": "declarations; edge/test_problems.py maps them",
    "domains/bots/models.py": "declarations; tests/contract asks with them",
    "domains/bots/store.py": "ports; tests/support/bot_store.py is their contract",
    "domains/links/routes.py": "declarations; tests/contract asks it",
    "domains/links/errors.py": "declarations; edge/test_problems.py maps them",
    "domains/links/models.py": "declarations; tests/contract asks with them",
    "domains/links/store.py": "a port; providers/test_link_previews.py tests it",
    "domains/moderation/routes.py": "declarations; tests/contract asks every route",
    "domains/moderation/errors.py": "declarations; edge/test_problems.py maps them",
    "domains/moderation/models.py": "declarations; tests/contract asks with them",
    "domains/moderation/store.py": "ports; tests/support/moderation.py is the suite",
    "domains/moderation/rules.py": "settings; app/test_configuration.py reads them",
    "domains/messaging/routes.py": "declarations; tests/contract asks every route",
    "domains/messaging/beside.py": "ports; tests/support has a suite for each",
    "domains/messaging/beside_routes.py": "declarations; tests/contract asks them",
    "domains/messaging/message_routes.py": "declarations; tests/contract asks them",
    "domains/messaging/member_routes.py": "declarations; tests/contract asks them",
    "domains/payment/ledger/errors.py": "declarations; edge/test_problems.py maps them",
    "domains/payment/ledger/store.py": "a port; tests/support/ledger.py is its suite",
    "domains/payment/qr/errors.py": "declarations; edge/test_problems.py maps them",
    "domains/payment/qr/models.py": "declarations; tests/contract asks with them",
    "domains/payment/qr/ports.py": "a port; providers/test_qr_image.py tests it",
    "domains/payment/qr/routes.py": "declarations; tests/contract asks every route",
    "domains/payment/errors.py": "declarations; edge/test_problems.py maps them",
    "domains/payment/routes.py": "declarations; tests/contract asks every route",
    "domains/payment/rows.py": "declarations; tests/support/payment_stores.py has them",
    "domains/payment/store.py": "ports; tests/support/payment_stores.py is the suite",
    "domains/payment/sandbox.py": "ports; tests/support/sandbox_store.py is the suite",
    "domains/people/store.py": "ports; tests/support/people_store.py is their suite",
    "domains/messaging/errors.py": "declarations; edge/test_problems.py maps them",
    "domains/search/routes.py": "declarations; tests/contract asks every route",
    "sagas/store.py": "a port; tests/support/sagas.py is its contract",
    "domains/search/errors.py": "declarations; edge/test_problems.py maps them",
    "providers/payments/bank_objects.py": "shapes; test_bank_transfer.py reads them",
    "providers/payments/omise_objects.py": "shapes; test_omise.py reads each of them",
    "providers/payments/stripe_objects.py": "shapes; test_stripe.py reads each",
}


# Extensions without one, and why.
UNTESTED_EXTENSIONS = {
    "http_reactor": "the half of gateway that is about HTTP; test_gateway.py",
}


def modules() -> set[str]:
    found = (path.relative_to(SOURCE) for path in SOURCE.rglob("*.py"))
    return {str(path) for path in found if path.name != "__init__.py"}


def unit_tests() -> set[str]:
    found = (path.relative_to(UNIT) for path in UNIT.rglob("test_*.py"))
    return {str(path) for path in found if path.parts[0] not in OTHER_PACKAGES}


def name_of_test(module: str) -> str:
    path = Path(module)
    return str(path.with_name(f"test_{path.name}"))


def test_every_module_has_its_test_file() -> None:
    wanted = {name_of_test(module) for module in modules() - set(UNTESTED)}
    assert sorted(wanted - unit_tests()) == []


def test_every_test_file_has_its_module() -> None:
    known = {name_of_test(module) for module in modules()}
    assert sorted(unit_tests() - known) == []


def test_every_exception_is_still_one() -> None:
    assert sorted(set(UNTESTED) - modules()) == []
    tested = {module for module in UNTESTED if name_of_test(module) in unit_tests()}
    assert sorted(tested) == []


def test_every_extension_has_its_test_file() -> None:
    sources = {path.stem for path in (ROOT / "tchatd_ext").glob("*.pyx")}
    tests = {
        path.stem.removeprefix("test_") for path in UNIT.glob("tchatd_ext/test_*.py")
    }
    assert sorted(sources - tests) == sorted(UNTESTED_EXTENSIONS)
