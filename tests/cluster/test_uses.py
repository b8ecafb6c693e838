"""Whatever ssh is used for, it is in the job."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.scenarios import uses
from tests.cluster.tools import clients

METHODS = ("publickey", "keyboard-interactive")

if TYPE_CHECKING:
    from tests.cluster.harness.cluster import Cluster


@pytest.mark.parametrize("method", METHODS)
def test_every_kind_of_use(cluster: Cluster, method: str) -> None:
    uses.in_every_kind_of_use(cluster, method)


def test_copies(cluster: Cluster) -> None:
    uses.copies(cluster)


def test_through_a_node(cluster: Cluster) -> None:
    uses.through_a_node(cluster)


def test_already_connected(cluster: Cluster) -> None:
    uses.already_connected(cluster)


def test_what_a_refused_user_sees(cluster: Cluster) -> None:
    clients.refusals(cluster, clients.OF_OPENSSH)
