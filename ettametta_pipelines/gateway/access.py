"""Who may do what at the gateway. Every route names one rule of `Rule`; a test walks the routes to see that it does.

Whoever is named in ETTAMETTA_OPERATOR_ACCOUNTS sees and changes what belongs to those accounts alone; while it is not
set, every operator is one of every account. What is found by an id answers as if it did not exist where it is
another's. What the request itself names by its account is refused before anybody looks whether there is such an
account. So no answer tells what another account has. Who an operator is, and whether a form is theirs, is
`operators.py`'s business.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from fastapi.params import Depends as Dependency

from ettametta_pipelines.gateway.operators import Operator, OperatorsDoor, PageRefused, PostedForm
from ettametta_pipelines.settings import Settings

EVERY_ACCOUNT = "*"
T = TypeVar("T")


class Rule(StrEnum):
    """To whom a route answers."""

    PUBLIC = "anybody"
    SIGNED = "who signs the message, holds the sender's token, or has a signed link"
    MACHINES = "machines beside this one: nothing that came through a proxy"
    OPERATOR = "operators; what is shown is that of their accounts"
    ACCOUNT = "operators of the account that it is about"


def open_to(rule: Rule) -> Dependency:
    """Declares the rule of a route that is not behind the operators' door and checks its callers itself."""

    def declared() -> None:
        return None

    declared.rule = rule  # type: ignore[attr-defined]
    dependency: Dependency = Depends(declared)
    return dependency


@dataclass(frozen=True)
class Subject:
    """What a request is about. `find` finds it, from path and form, and raises where there is no such thing; `account`
    says whose it is; `refused` makes what an operator of other accounts gets."""

    find: Callable[[Mapping[str, str], Mapping[str, str]], Any]
    account: Callable[[Any], str]
    refused: Callable[[Mapping[str, str], str], Exception]


def by_id(
    name: str, find: Callable[[str], T], account: Callable[[T], str], missing: Callable[[str], Exception]
) -> Subject:
    """What has an id in the path; `find` raises `missing(id)` where there is none, as is raised for another's."""
    return Subject(lambda path, _: find(path[name]), account, lambda path, _: missing(path[name]))


def about(request: Request) -> Any:
    """What the rule of this route found by its id: it is not looked up twice."""
    return request.state.about


def _not_yours(_: Mapping[str, str], account: str) -> Exception:
    return PageRefused(
        403, "Not your account", f"You may not see or change what belongs to {account[:60]!r}."
    )


# The account as the path or the form names it.
IN_PATH = Subject(lambda path, _: path["account"], str, _not_yours)
IN_FORM = Subject(lambda _, fields: fields.get("account", "").strip(), str, _not_yours)


class Access:
    """Dependencies of the operators' routes, by rule: `operator`, and `reader` and `changer` of a subject."""

    def __init__(self, settings: Settings, door: OperatorsDoor) -> None:
        self._accounts = settings.operator_accounts
        self._door = door

        def operator(admitted: Annotated[Operator, Depends(door.admit)]) -> Operator:
            return admitted

        operator.rule = Rule.OPERATOR  # type: ignore[attr-defined]
        self.operator = operator

    def accounts_of(self, operator: Operator) -> frozenset[str] | None:
        """The accounts of an operator; None for every account."""
        if not self._accounts:
            return None
        named = frozenset(self._accounts.get(operator.name, "").split())
        return None if EVERY_ACCOUNT in named else named

    def may(self, operator: Operator, account: str) -> bool:
        accounts = self.accounts_of(operator)
        return accounts is None or account in accounts

    def check(self, operator: Operator, account: str) -> None:
        """Raises PageRefused. For what a route learns on its way; else the rule is in its dependency."""
        if not self.may(operator, account):
            raise _not_yours({}, account)

    def reader(self, subject: Subject) -> Callable[..., Operator]:
        """Lets an operator of the subject's account in."""

        def reading(request: Request, operator: Annotated[Operator, Depends(self._door.admit)]) -> Operator:
            self._check(operator, subject, request, {})
            return operator

        reading.rule = Rule.ACCOUNT  # type: ignore[attr-defined]
        return reading

    def changer(self, subject: Subject, form: Callable[..., Any] | None = None) -> Callable[..., PostedForm]:
        """Lets a form of an operator of the subject's account in; `form` is the door's, `door.form` if not given."""

        def changing(
            request: Request, posted: Annotated[PostedForm, Depends(form or self._door.form)]
        ) -> PostedForm:
            self._check(posted.operator, subject, request, posted.fields)
            return posted

        changing.rule = Rule.ACCOUNT  # type: ignore[attr-defined]
        return changing

    def _check(
        self, operator: Operator, subject: Subject, request: Request, fields: Mapping[str, str]
    ) -> None:
        found = subject.find(request.path_params, fields)
        account = subject.account(found)
        if not self.may(operator, account):
            raise subject.refused(request.path_params, account)
        request.state.about = found
