"""The verbs of CPS: agree, place, touch, credit, reverse."""

from __future__ import annotations

from marketplace.promotion.agreements import OpenedAgreement as OpenedAgreement
from marketplace.promotion.agreements import Signed as Signed
from marketplace.promotion.agreements import accept as accept
from marketplace.promotion.agreements import counter as counter
from marketplace.promotion.agreements import decline as decline
from marketplace.promotion.agreements import end as end
from marketplace.promotion.agreements import expire_invitations as expire_invitations
from marketplace.promotion.agreements import invite as invite
from marketplace.promotion.agreements import pause as pause
from marketplace.promotion.agreements import propose_version as propose_version
from marketplace.promotion.agreements import resume as resume
from marketplace.promotion.agreements import sign_agreement as sign_agreement
from marketplace.promotion.agreements import terminate as terminate
from marketplace.promotion.agreements import withdraw as withdraw
from marketplace.promotion.attribute import Attributed as Attributed
from marketplace.promotion.attribute import LineAttributed as LineAttributed
from marketplace.promotion.attribute import LineForAttribution as LineForAttribution
from marketplace.promotion.attribute import OrderForAttribution as OrderForAttribution
from marketplace.promotion.attribute import attribute as attribute
from marketplace.promotion.attribute import attributed as attributed
from marketplace.promotion.explanation import AttributionExplained as AttributionExplained
from marketplace.promotion.explanation import explain_attribution as explain_attribution
from marketplace.promotion.link_facts import NewLink as NewLink
from marketplace.promotion.links import CreatedLink as CreatedLink
from marketplace.promotion.links import CreatedLinks as CreatedLinks
from marketplace.promotion.links import create_link as create_link
from marketplace.promotion.links import create_links as create_links
from marketplace.promotion.links import create_promoter as create_promoter
from marketplace.promotion.links import disable_link as disable_link
from marketplace.promotion.links import expire_links as expire_links
from marketplace.promotion.links import record_clicks as record_clicks
from marketplace.promotion.reversal import LineRefund as LineRefund
from marketplace.promotion.reversal import LineReversed as LineReversed
from marketplace.promotion.reversal import refunded_basis as refunded_basis
from marketplace.promotion.reversal import reverse_lines as reverse_lines
from marketplace.promotion.server_touches import Recorded as Recorded
from marketplace.promotion.server_touches import ToldTouch as ToldTouch
from marketplace.promotion.server_touches import record_touches as record_touches
