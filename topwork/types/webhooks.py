"""Webhooks by the Standard Webhooks specification (standardwebhooks.com), and their deliveries."""

from typing import Annotated, Any, Literal

from pydantic import Field

from topwork.kinds import DeliveryState, WebhookEvent
from topwork.types.values import Answer, Body, Moment, Open

Address = Annotated[
    str,
    Field(
        max_length=2000,
        pattern=r"^https?://[A-Za-z0-9.\[\]:_-]+(/[!-~]*)?$",
        examples=["https://hooks.example.org/topwork"],
    ),
]


class WebhookRequest(Body):
    """Where to tell of what."""

    url: Address = Field(description="Address that gets a POST for each event.")
    events: Annotated[list[WebhookEvent], Field(min_length=1, max_length=20)] = Field(
        [*WebhookEvent], description="What is told; everything, where left out."
    )


class Webhook(Answer):
    """An address that is told of events; its secret is shown once."""

    id: str = Field(description="`wh_...`.")
    object: Literal["webhook"] = Field("webhook", description="Always `webhook`.")
    url: str = Field(description="Address that gets a POST for each event.")
    events: list[Open[WebhookEvent]] = Field(description="What is told.")
    owner: str = Field(description="Whose events are told.")
    enabled: bool = Field(description="False once the receiver has answered 410.")
    failures: int = Field(description="Tries without success since the last one with it.")
    not_before: Moment | None = Field(description="When it is tried again after a failure.")
    created_at: Moment = Field(description="When it was made.")


class WebhookCreated(Webhook):
    """The only answer that shows the secret."""

    secret: str = Field(description="`whsec_...`, with which deliveries are signed.")


class WebhookDelivery(Answer):
    """One event for one webhook; sent in order until the receiver answers 2xx."""

    id: int = Field(description="Counts the deliveries of the webhook from 1.")
    object: Literal["delivery"] = Field("delivery", description="Always `delivery`.")
    message: str = Field(description="`msg_...`, the header `webhook-id`; equal in every try.")
    event: Open[WebhookEvent] = Field(description="What is told.")
    state: Open[DeliveryState] = Field(description="How far it is.")
    attempts: int = Field(description="How often it was sent.")
    status: int | None = Field(description="Status of the receiver's last answer.")
    error: str | None = Field(description="Why the last try failed.")
    payload: dict[str, Any] = Field(description="The body that is sent.")
    created_at: Moment = Field(description="When it happened.")
    delivered_at: Moment | None = Field(description="When the receiver answered 2xx.")
