"""The table of affiliate networks, from the operator's YAML file: how each carries our code, and what it wants said.

Light (pydantic and yaml) and read anew when it is needed, so that an edit holds without a restart.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.yaml_files import read_yaml

DEFAULT_NETWORKS_FILE = Path(__file__).with_name("networks.yaml")

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
Host = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9.-]{0,252}[a-z0-9])?$")]


Parameter = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,40}$")]


class Postback(BaseModel):
    """What a network calls the parameters of its postbacks, where it is not our name, and its words for a status."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    transaction_id: Parameter = "transaction_id"
    occurred_at: Parameter = "occurred_at"
    amount: Parameter = "amount"
    currency: Parameter = "currency"
    status: Parameter = "status"
    link: Parameter = "link"
    order_id: Parameter = "order_id"
    statuses: dict[
        Annotated[str, StringConstraints(to_lower=True)],
        Literal["pending", "approved", "declined", "reversed"],
    ] = {}

    def names(self) -> dict[str, str]:
        """Our name -> the network's."""
        return self.model_dump(exclude={"statuses"})


class Network(BaseModel):
    """One network. Without a `parameter` its sales come back without our code."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=60)]
    parameter: Parameter | None = None
    statement: Annotated[str, StringConstraints(strip_whitespace=True, max_length=200)] = ""
    postback: Postback = Postback()


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    networks: dict[Name, Network] = Field(min_length=1)
    shop_hosts: list[Host] = []


@dataclass(frozen=True)
class Networks:
    """All networks by name, and the hosts of the operator's own stores."""

    by_name: Mapping[str, Network]
    shop_hosts: frozenset[str]

    def is_own_shop(self, host: str) -> bool:
        return host.lower() in self.shop_hosts


def load_networks(settings: Settings) -> Networks:
    """The networks file, or the packaged one. Raises PermanentError `bad_networks_file` naming each bad field."""
    file = settings.networks_file or DEFAULT_NETWORKS_FILE
    try:
        read = _File.model_validate(read_yaml(file))
    except ValidationError as error:
        said = "; ".join(
            f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors(include_url=False)
        )
        raise _bad_file(file, said) from None
    except (OSError, UnicodeDecodeError) as error:
        raise _bad_file(file, f"it cannot be read ({error.__class__.__name__})") from error
    except yaml.YAMLError as error:
        raise _bad_file(file, f"not valid YAML ({' '.join(str(error).split())[:200]})") from error
    hosts = frozenset(read.shop_hosts) | {host for host in [_shopify_host(settings)] if host}
    return Networks(read.networks, hosts)


def _shopify_host(settings: Settings) -> str:
    if settings.shopify_shop_url is None:
        return ""
    name = settings.shopify_shop_url.get_secret_value().removeprefix("https://").strip("/").lower()
    return name if "." in name else f"{name}.myshopify.com"


def _bad_file(file: Path, problem: str) -> PermanentError:
    return PermanentError(
        f"Networks file {file}: {problem}.",
        code="bad_networks_file",
        remedy=f"Correct {file.name}; the packaged networks.yaml shows every key.",
    )
