"""The links between Kafka's nodes: it is known who comes over each, and what is cut is cut."""

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from streams.broker.probe import live_nodes
from tests.faults.links import LinkedCluster, links_of
from tests.support.names import own_name, remove_topics
from tests.support.patience import WAIT_S, wait_until


def test_every_node_is_known_at_all_doors(cluster: LinkedCluster) -> None:
    topic = own_name()
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap_servers, "log_level": 0})
    admin.create_topics([NewTopic(topic, 6, 3)])[topic].result(WAIT_S)  # which all fetch from each other
    everybody = {link for node in (1, 2, 3) for link in links_of(node) if link[2] == "broker"}
    wait_until(lambda: everybody <= cluster.seen())
    wait_until(lambda: {one for one, _, door in cluster.seen() if door == "controller"} == {1, 2, 3})
    remove_topics(cluster.bootstrap_servers, topic)


@pytest.mark.parametrize("silently", [False, True])
def test_a_node_that_is_cut_off_is_taken_for_dead_and_comes_back(cluster: LinkedCluster, silently: bool) -> None:
    ports = [node.port for node in cluster.nodes]
    cluster.cut_off(2, silently=silently)
    wait_until(lambda: live_nodes(ports[0]) == live_nodes(ports[2]) == {1, 3})
    assert 2 in live_nodes(ports[1])  # it has not heard of it
    cluster.mend()
    wait_until(lambda: all(live_nodes(port) == {1, 2, 3} for port in ports))


def test_one_direction_of_a_link(cluster: LinkedCluster) -> None:
    """A broker that can't ask any controller is out; one that no controller can ask is not: they don't need to."""
    ports = [node.port for node in cluster.nodes]
    cluster.cut([link for link in links_of(2) if link[0] == 2 and link[2] == "controller"])
    wait_until(lambda: live_nodes(ports[0]) == {1, 3})
    cluster.mend()
    wait_until(lambda: all(live_nodes(port) == {1, 2, 3} for port in ports))
