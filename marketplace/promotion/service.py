"""The verbs of CPS: agree, place, touch, credit, reverse."""

from __future__ import annotations

from marketplace.promotion.agreements.inviting import accept as accept
from marketplace.promotion.agreements.inviting import counter as counter
from marketplace.promotion.agreements.inviting import decline as decline
from marketplace.promotion.agreements.inviting import draft_invitation as draft_invitation
from marketplace.promotion.agreements.inviting import expire_invitations as expire_invitations
from marketplace.promotion.agreements.inviting import invite as invite
from marketplace.promotion.agreements.inviting import revise_invitation as revise_invitation
from marketplace.promotion.agreements.inviting import send_invitation as send_invitation
from marketplace.promotion.agreements.inviting import withdraw as withdraw
from marketplace.promotion.agreements.lifecycle import OpenedAgreement as OpenedAgreement
from marketplace.promotion.agreements.lifecycle import Signed as Signed
from marketplace.promotion.agreements.lifecycle import end as end
from marketplace.promotion.agreements.lifecycle import pause as pause
from marketplace.promotion.agreements.lifecycle import propose_version as propose_version
from marketplace.promotion.agreements.lifecycle import resume as resume
from marketplace.promotion.agreements.lifecycle import sign_agreement as sign_agreement
from marketplace.promotion.agreements.lifecycle import terminate as terminate
from marketplace.promotion.decisions.attribute import Attributed as Attributed
from marketplace.promotion.decisions.attribute import LineAttributed as LineAttributed
from marketplace.promotion.decisions.attribute import LineForAttribution as LineForAttribution
from marketplace.promotion.decisions.attribute import OrderForAttribution as OrderForAttribution
from marketplace.promotion.decisions.attribute import attribute as attribute
from marketplace.promotion.decisions.attribute import attributed as attributed
from marketplace.promotion.decisions.explanation import AttributionExplained as AttributionExplained
from marketplace.promotion.decisions.explanation import explain_attribution as explain_attribution
from marketplace.promotion.links.lifecycle import CreatedLink as CreatedLink
from marketplace.promotion.links.lifecycle import CreatedLinks as CreatedLinks
from marketplace.promotion.links.lifecycle import create_link as create_link
from marketplace.promotion.links.lifecycle import create_links as create_links
from marketplace.promotion.links.lifecycle import create_promoter as create_promoter
from marketplace.promotion.links.lifecycle import disable_link as disable_link
from marketplace.promotion.links.lifecycle import expire_links as expire_links
from marketplace.promotion.links.lifecycle import record_clicks as record_clicks
from marketplace.promotion.links.link_facts import NewLink as NewLink
from marketplace.promotion.touches.server_touches import Recorded as Recorded
from marketplace.promotion.touches.server_touches import ToldTouch as ToldTouch
from marketplace.promotion.touches.server_touches import record_touches as record_touches
