"""What the walk asks of the brand API. A field without an entry here fails the walk.

A name in capitals, or of a table, is filled in from the market (walk.py); None asks without arguments. ``OWN``: it
makes or changes rows of the caller alone, whatever is asked.
"""

from __future__ import annotations

from typing import Any

from tests.factories.filled_market import BUYER
from tests.graph.isolation.walk import OWN

_TERMS = {"rules": [{"ratePpm": 1000}]}

QUERIES: dict[str, dict[str, Any] | None] = {
    "me": None, "apiTokens": None, "storefronts": None, "members": None, "booksCheck": None,
    "brand": {"id": "MERCHANT"}, "brands": {"first": 100}, "products": {"filter": {"brandId": "MERCHANT"}},
    "product": {"id": "products"}, "catalogImport": {"id": "imports"}, "community": {"id": "communities"},
    "communities": {"first": 100}, "invitation": {"id": "invitations"}, "invitations": {"first": 100},
    "agreement": {"id": "agreements"}, "agreements": {"first": 100}, "link": {"id": "tracked_links"},
    "links": {"first": 100}, "promoters": {"first": 100}, "explainAttribution": {"orderId": "orders"},
    "deepLink": {"storefrontId": "storefronts"}, "qrBatch": {"id": "qr_batches"}, "qrBatches": {"first": 100},
    "campaign": {"id": "campaigns"}, "campaigns": {"first": 100}, "offer": {"id": "offers"},
    "offers": {"first": 100}, "partnerOffers": {"first": 100},
    "partners": {"filter": {"text": "PRIVATE"}}, "partner": {"id": "PROMOTER"}, "ownPartnerProfile": None,
    "performance": {"groupBy": "PARTNER", "from": "2026-03-01", "to": "2026-03-31"}, "commissions": {"first": 100},
    "previewCommission": {"input": {"agreementId": "agreements", "lines": [{"variantId": "variants"}]}},
    "holdout": {"id": "holdouts"}, "holdouts": {"first": 100},
    "placementAudience": {"placementId": "placements", "agreementId": "agreements"},
    "offerSimulation": {"id": "offer_simulations"}, "offerSimulations": {"first": 100},
    "proposal": {"id": "proposals"}, "order": {"id": "orders"}, "orders": {"first": 100},
    "explainOrder": {"id": "orders"}, "fulfillmentOrder": {"id": "fulfillment_orders"},
    "fulfillmentOrders": {"first": 100}, "fulfillmentOfOrder": {"orderId": "orders"},
    "supplierOffers": {"variantIds": ["variants"]}, "supplier": {"id": "SUPPLIER"},
    "fraudSignals": {"first": 100}, "fraudSignal": {"id": "fraud_signals"}, "commissionHolds": {"first": 100},
    "commissionDisputes": {"first": 100}, "commissionDispute": {"id": "commission_disputes"},
    "coupons": {"first": 100}, "balances": {"payeeId": "MERCHANT"}, "ledgerEntries": {"payeeId": "MERCHANT"},
    "payouts": {"payeeId": "MERCHANT"}, "statements": {"payeeId": "MERCHANT"},
    "statementDocument": {"id": "statements"}, "payees": {"payeeId": "MERCHANT"},
    "ledgerAccounts": {"payeeId": "MERCHANT"}, "explainAmount": {"id": "ENTRY"},
    "statementContests": {"first": 100}, "disputes": {"first": 100}, "dispute": {"id": "du_market"},
    "receivables": {"payeeId": "MERCHANT"}, "signingSecrets": {"storefrontId": "storefronts"},
    "commissionDebt": {"currencyCode": "CNY"},
    "writeOffs": {"payeeId": "MERCHANT"}, "settlementTerms": {"payeeId": "MERCHANT", "currencyCode": "CNY"},
    "returns": {"orderId": "orders"}, "platformFunds": {"currencyCode": "CNY"}, "reconciliationHealth": None,
    "bankPayouts": {"payeeId": "MERCHANT"}, "platformPayouts": {"first": 100}, "railOrder": {"orderId": "orders"},
    "railInstructions": {"payeeId": "MERCHANT"}, "railRefusedRequests": {"first": 100},
    "reconciliationRuns": {"first": 100}, "reconciliationReport": {"id": "RUN"}, "unmatchedRows": {"first": 100},
}  # fmt: skip

MUTATIONS: dict[str, tuple[dict[str, Any], str]] = {
    "signUp": (
        {"kind": "BRAND", "name": "Third", "email": "t@example.com", "country": "CN", "currency": "CNY"}, OWN,
    ),
    "brandProfileUpdate": ({"description": "mine"}, OWN),
    "apiTokenCreate": ({"name": "x", "scopes": ["supply:read"]}, OWN),
    "apiTokenRotate": ({"id": "api_tokens"}, ""),
    "apiTokenRevoke": ({"id": "api_tokens"}, ""),
    "storefrontCreate": ({"name": "s", "channel": "WEB", "currency": "CNY", "country": "CN"}, OWN),
    "storefrontUpdate": ({"id": "storefronts", "newKey": True}, ""),
    "signingSecretCreate": ({"storefrontId": "storefronts", "rotate": True}, ""),
    "signingSecretRevoke": ({"id": "signing_secrets"}, ""),
    "commissionDebtPay": ({"currencyCode": "CNY"}, ""),
    "productCreate": ({"titleEn": "mine", "category": "a/b"}, OWN),
    "productUpdate": ({"id": "products", "titleEn": "stolen"}, ""),
    "productPublish": ({"id": "products"}, ""),
    "productWithdraw": ({"id": "products"}, ""),
    "productArchive": ({"id": "products"}, ""),
    "variantsAdd": ({"productId": "products", "variants": [{"sku": "stolen"}]}, ""),
    "pricesSet": (
        {"prices": [{"variantId": "variants", "price": {"amount": {"amount": "1.00", "currencyCode": "CNY"}}}]}, "",
    ),
    "productsImport": ({"content": "sku,title_en\nwalk,mine\n"}, OWN),
    "communityCreate": ({"name": "c", "channel": "LIVE_ROOM"}, OWN),
    "communityMembersAdd": (
        {"communityId": "communities", "members": [{"identifiers": [{"kind": "EMAIL", "value": BUYER}]}]}, "",
    ),
    "contactsTag": ({"contactIds": ["contacts"], "tags": ["stolen"]}, ""),
    "placementCreate": ({"communityId": "communities", "kind": "POST", "name": "p"}, ""),
    "invitationSend": ({"advertiserId": "MERCHANT", "promoterBrandId": "PROMOTER", "terms": _TERMS}, ""),
    "invitationCounter": ({"id": "invitations", "terms": _TERMS}, ""),
    "invitationDecline": ({"id": "invitations"}, ""),
    "invitationWithdraw": ({"id": "invitations"}, ""),
    "invitationDraft": ({"advertiserId": "MERCHANT", "promoterBrandId": "PROMOTER", "terms": _TERMS}, ""),
    "invitationDraftUpdate": ({"id": "invitations", "terms": _TERMS}, ""),
    "invitationDraftSend": ({"id": "invitations"}, ""),
    "campaignCreate": ({"name": "mine", "currencyCode": "CNY"}, OWN),
    "campaignUpdate": ({"id": "campaigns", "name": "stolen", "openEnd": True}, ""),
    "campaignActivate": ({"id": "campaigns"}, ""),
    "campaignPause": ({"id": "campaigns"}, ""),
    "campaignResume": ({"id": "campaigns"}, ""),
    "campaignEnd": ({"id": "campaigns"}, ""),
    "offerCreate": ({"campaignId": "campaigns", "content": {"name": "stolen", "terms": _TERMS}}, ""),
    "offerUpdate": (
        {"id": "offers", "visibility": "PUBLIC", "content": {"name": "stolen", "terms": _TERMS}}, "",
    ),
    "offerPublish": ({"id": "offers"}, ""),
    "offerRetire": ({"id": "offers"}, ""),
    "offerInvite": ({"offerId": "offers", "promoterBrandId": "PROMOTER"}, ""),
    "offerApply": ({"offerId": "offers"}, ""),
    "offerPropose": ({"offerId": "offers"}, ""),
    "invitationAccept": ({"id": "invitations"}, ""),
    "agreementSign": ({"id": "agreements", "contentHash": "CONTENT_HASH"}, ""),
    "agreementProposeVersion": ({"id": "agreements", "terms": _TERMS}, ""),
    "agreementPause": ({"id": "agreements"}, ""),
    "agreementResume": ({"id": "agreements"}, ""),
    "agreementEnd": ({"id": "agreements"}, ""),
    "agreementTerminate": ({"id": "agreements", "reason": "malice"}, ""),
    "promoterCreate": ({"name": "p", "kind": "KOC"}, OWN),
    "linkBatchCreate": (
        {
            "idempotencyKey": "w",
            "links": [{"agreementId": "agreements", "placementId": "placements", "destination": "https://x.example.com"}],
        }, OWN,
    ),
    "deepLinkSet": (
        {"storefrontId": "storefronts", "appId": "wx0123456789abcdef", "path": "p", "query": "t={touch}"}, "",
    ),
    "deepLinkRemove": ({"storefrontId": "storefronts"}, ""),
    "qrBatchCreate": (
        {
            "name": "b", "kind": "POSTER", "arms": [{"quantity": 1}],
            "link": {"agreementId": "agreements", "placementId": "placements", "destination": "https://x.example.com"},
        }, "",
    ),
    # Row by row: the row is refused.
    "touchesRecord": (
        {"touches": [{"eventId": "w", "kind": "CLICK", "at": "2026-03-03T02:05:00Z", "linkId": "tracked_links"}]}, "",
    ),
    "fraudSignalDismiss": ({"id": "fraud_signals", "reason": "x"}, ""),
    "fraudSignalUphold": ({"id": "fraud_signals", "reason": "x"}, ""),
    "commissionHoldRelease": ({"id": "commission_holds", "reason": "x"}, ""),
    "commissionHoldUphold": ({"id": "commission_holds", "reason": "x"}, ""),
    "commissionHoldOpen": ({"commissionLineId": "commission_lines", "reason": "x"}, ""),
    "commissionDisputeOpen": ({"subject": "HOLD", "holdId": "commission_holds", "reason": "x"}, ""),
    "commissionDisputeAnswer": ({"id": "commission_disputes", "accept": True, "reply": "x"}, ""),
    "commissionDisputeAcceptReply": ({"id": "commission_disputes"}, ""),
    "commissionDisputeEscalate": ({"id": "commission_disputes", "escalation": "x"}, ""),
    "commissionDisputeRule": ({"id": "commission_disputes", "uphold": True, "ruling": "x"}, ""),
    "partnerProfileUpsert": ({"headline": "mine", "roles": ["ADVERTISER"], "categories": ["beauty"]}, OWN),
    "partnerProfileWithdraw": ({}, OWN),
    "linkCreate": (
        {"agreementId": "agreements", "placementId": "placements", "destination": "https://x.example.com"}, "",
    ),
    "linkDisable": ({"id": "tracked_links"}, ""),
    "couponCreate": (
        {
            "idempotencyKey": "w", "code": "walk", "currencyCode": "CNY",
            "amount": {"amount": "1.00", "currencyCode": "CNY"},
        }, OWN,
    ),
    "couponStop": ({"id": "coupons"}, ""),
    "productsPropose": ({"communityId": "communities"}, ""),
    "communitiesPropose": ({"productId": "products"}, ""),
    "offerSimulate": (
        {
            "from": "2026-03-01T00:00:00Z", "to": "2026-04-01T00:00:00Z", "terms": _TERMS,
            "agreementIds": ["agreements"],
        }, "",
    ),
    "holdoutStart": ({"communityId": "communities", "agreementId": "agreements", "sharePpm": 100_000}, ""),
    "holdoutEnd": ({"id": "holdouts"}, ""),
    "linkCreateFromProposal": (
        {"proposalId": "proposals", "placementId": "placements", "destination": "https://x.example.com"}, "",
    ),
    "refundCreate": ({"orderId": "orders", "idempotencyKey": "w", "everything": True}, ""),
    "refundRetry": ({"refundId": "refunds", "idempotencyKey": "w"}, ""),
    "returnAnnounce": (
        {"orderId": "orders", "idempotencyKey": "w", "lines": [{"orderLineId": "order_lines", "quantity": 1}]}, "",
    ),
    "returnWithdraw": ({"id": "RETURN", "idempotencyKey": "w"}, ""),
    "disputeEvidenceGive": (
        {"disputeId": "du_market", "idempotencyKey": "w", "fields": [{"name": "customer_name", "value": "x"}]}, "",
    ),
    "disputeConcede": ({"disputeId": "du_market", "idempotencyKey": "w"}, ""),
    "disputeAbsorb": ({"disputeId": "du_market", "orderId": "orders", "idempotencyKey": "w", "reason": "x"}, ""),
    "writeOffAsk": (
        {
            "payeeId": "MERCHANT", "idempotencyKey": "w", "reason": "x",
            "amount": {"amount": "1.00", "currencyCode": "CNY"},
        }, "",
    ),
    "writeOffDecide": ({"id": "WRITE_OFF", "idempotencyKey": "w", "approve": True}, ""),
    "statementContestOpen": (
        {
            "statementId": "statements", "entry": "ENTRY", "idempotencyKey": "w", "reason": "x",
            "claimed": {"amount": "1.00", "currencyCode": "CNY"},
        }, "",
    ),
    "statementContestAnswer": ({"id": "CONTEST", "idempotencyKey": "w", "accept": True, "reply": "x"}, ""),
    "statementContestEscalate": ({"id": "CONTEST", "idempotencyKey": "w", "escalation": "x"}, ""),
    "statementContestRule": (
        {
            "id": "CONTEST", "idempotencyKey": "w", "ruling": "x",
            "granted": {"amount": "1.00", "currencyCode": "CNY"},
        }, "",
    ),
    "settlementPolicySet": ({"idempotencyKey": "w", "absorption": {"upToMinor": 1}}, ""),
    "platformPayoutRequest": (
        {"idempotencyKey": "w", "reference": "w", "amount": {"amount": "1.00", "currencyCode": "CNY"}}, "",
    ),
    "feeBearerSet": ({"merchantId": "MERCHANT", "idempotencyKey": "w", "bearer": "MERCHANT", "reason": "x"}, ""),
    "settlementTermsSet": (
        {"payeeId": "MERCHANT", "idempotencyKey": "w", "currencyCode": "CNY", "legalName": "stolen"}, "",
    ),
    "supplierRuleSet": ({"supplierId": "SUPPLIER", "relation": "FORBIDDEN"}, OWN),
    "payoutAccountCreate": ({"idempotencyKey": "w", "currencyCode": "CNY", "promoterId": "promoters"}, ""),
    "payoutRun": ({"idempotencyKey": "w", "cycle": "walk"}, ""),
    "statementClose": (
        {
            "idempotencyKey": "w", "payeeId": "MERCHANT", "currencyCode": "CNY",
            "periodFrom": "2026-01-01T00:00:00Z", "periodTo": "2026-02-01T00:00:00Z",
        }, "",
    ),
}  # fmt: skip
