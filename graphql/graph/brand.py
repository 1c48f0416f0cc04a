"""The brand API: brands, promoters, operators and integrations."""

from __future__ import annotations

from strawberry.schema.config import StrawberryConfig
from strawberry.tools import merge_types

from graph.audiences.mutations import AudienceMutations
from graph.audiences.queries import AudienceQueries
from graph.brands.mutations import BrandMutations
from graph.brands.queries import BrandQueries
from graph.brands.signing_secrets import SigningSecretMutations, SigningSecretQueries
from graph.catalog.mutations import CatalogMutations
from graph.catalog.queries import CatalogQueries
from graph.insights.commissions import CommissionQueries
from graph.insights.holdouts import HoldoutMutations, HoldoutQueries
from graph.insights.performance import PerformanceQueries
from graph.insights.preview import PreviewQueries
from graph.insights.simulation import SimulationMutations, SimulationQueries
from graph.limits import Schema, extensions
from graph.matching.mutations import MatchingMutations
from graph.matching.queries import MatchingQueries
from graph.orders.mutations import OrderMutations
from graph.orders.queries import OrderQueries
from graph.orders.returns import ReturnMutations, ReturnQueries
from graph.promotion.campaigns import CampaignMutations, CampaignQueries
from graph.promotion.coupons import CouponMutations, CouponQueries
from graph.promotion.directory import DirectoryMutations, DirectoryQueries
from graph.promotion.disputes import CommissionDisputeMutations, CommissionDisputeQueries
from graph.promotion.fraud import FraudMutations, FraudQueries
from graph.promotion.mutations import PromotionMutations
from graph.promotion.offers import OfferMutations, OfferQueries
from graph.promotion.queries import PromotionQueries
from graph.promotion.reach import ReachMutations, ReachQueries
from graph.promotion.touches import TouchMutations
from graph.scalars import SCALARS
from graph.settlement.contests import ContestMutations, ContestQueries
from graph.settlement.debts import DebtMutations, DebtQueries
from graph.settlement.disputes import DisputeMutations, DisputeQueries
from graph.settlement.ledger import LedgerQueries
from graph.settlement.mutations import SettlementMutations
from graph.settlement.own_debts import OwnDebtMutations, OwnDebtQueries
from graph.settlement.payouts import BankPayoutQueries
from graph.settlement.platform import PlatformMoneyMutations, PlatformMoneyQueries
from graph.settlement.queries import SettlementQueries
from graph.settlement.rails import RailQueries
from graph.supply.mutations import SupplyMutations
from graph.supply.queries import SupplyQueries

Query = merge_types(
    "Query",
    (
        BrandQueries,
        SigningSecretQueries,
        CatalogQueries,
        AudienceQueries,
        PromotionQueries,
        CampaignQueries,
        OfferQueries,
        CouponQueries,
        DirectoryQueries,
        FraudQueries,
        CommissionDisputeQueries,
        ReachQueries,
        MatchingQueries,
        PerformanceQueries,
        CommissionQueries,
        PreviewQueries,
        SimulationQueries,
        HoldoutQueries,
        OrderQueries,
        ReturnQueries,
        SupplyQueries,
        SettlementQueries,
        LedgerQueries,
        ContestQueries,
        DisputeQueries,
        DebtQueries,
        OwnDebtQueries,
        PlatformMoneyQueries,
        BankPayoutQueries,
        RailQueries,
    ),
)
Mutation = merge_types(
    "Mutation",
    (
        BrandMutations,
        SigningSecretMutations,
        CatalogMutations,
        AudienceMutations,
        PromotionMutations,
        CampaignMutations,
        OfferMutations,
        CouponMutations,
        DirectoryMutations,
        FraudMutations,
        CommissionDisputeMutations,
        ReachMutations,
        TouchMutations,
        MatchingMutations,
        SimulationMutations,
        HoldoutMutations,
        OrderMutations,
        ReturnMutations,
        SupplyMutations,
        SettlementMutations,
        ContestMutations,
        DisputeMutations,
        DebtMutations,
        OwnDebtMutations,
        PlatformMoneyMutations,
    ),
)

schema = Schema(
    query=Query,
    mutation=Mutation,
    config=StrawberryConfig(scalar_map=SCALARS, relay_max_results=100),
    extensions=extensions(),
)
