"""Every family through everything that reads checkpoints: the table of examples/consumers/, cell by cell."""

import pytest

from examples.consumers import ecosystem_page
from examples.consumers.table import CONSUMERS
from examples.consumers.workbench import KINDS, Workbench

CELLS = [
    (consumer, kind)
    for consumer in CONSUMERS
    for kind in KINDS
    if CONSUMERS[consumer].left_out(kind, KINDS[kind]) is None
]


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return Workbench(tmp_path_factory.mktemp("bench"), KINDS, compiler="aot_eager")


@pytest.mark.parametrize(("consumer", "kind"), CELLS)
def test_a_consumer_does_with_a_checkpoint_what_the_page_claims(bench, consumer, kind):
    CONSUMERS[consumer].take(bench, KINDS[kind])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_torchs_own_compiler_changes_no_number(tmp_path, kind):
    CONSUMERS["torch.compile"].take(Workbench(tmp_path, KINDS, compiler="inductor"), KINDS[kind])


def test_the_page_shows_the_consumers_and_families_of_today():
    assert ecosystem_page.is_up_to_date()
