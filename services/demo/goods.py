"""The words of the demo market: its brands, what they make and who gathers around them. All invented."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """A sort of product. ``price_minor`` is a middling one in fen, ``weight_g`` one unit's."""

    zh: str
    en: str
    category: str
    tags: tuple[str, ...]
    price_minor: int
    weight_g: int
    option: str
    values: tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Style:
    """A series of a brand; one product of each kind."""

    zh: str
    en: str
    tag: str


@dataclass(frozen=True, slots=True)
class House:
    """A brand with its five kinds; ``code`` begins its SKUs, ``world`` has prices beyond CNY."""

    key: str
    code: str
    zh: str
    en: str
    about: str
    kinds: tuple[Kind, ...]
    suppliers: tuple[str, ...]
    world: bool = False


@dataclass(frozen=True, slots=True)
class Circle:
    """A community: ``interests`` are the tags most of its members carry."""

    house: str
    zh: str
    en: str
    channel: str
    size: int
    interests: tuple[str, ...]


STYLES = (
    Style("山茶", "Camellia", "floral"),
    Style("晨雾", "Morning Mist", "minimalist"),
    Style("青梅", "Green Plum", "seasonal"),
    Style("月白", "Moon White", "gift"),
    Style("松间", "Among Pines", "organic"),
    Style("小满", "Ripening Grain", "everyday"),
    Style("海盐", "Sea Salt", "travel"),
    Style("桂影", "Osmanthus Shade", "festival"),
    Style("极简", "Bare", "sensitive"),
    Style("云上", "Above Clouds", "premium"),
)

_SIZES = ("S", "M", "L")

HOUSES = (
    House(
        "huajian", "HJ", "花间集", "Huajian Beauty", "植物护肤与彩妆。Plant-based skin care and make-up.",
        (
            Kind("保湿面霜", "Hydrating Cream", "beauty/skin/cream", ("skincare", "beauty"), 16900, 120,
                 "size", ("30 ml", "50 ml", "80 ml")),
            Kind("修护精华", "Repair Serum", "beauty/skin/serum", ("skincare", "anti-aging"), 25900, 90,
                 "size", ("15 ml", "30 ml", "50 ml")),
            Kind("丝绒口红", "Velvet Lipstick", "beauty/makeup/lip", ("makeup", "beauty"), 12900, 40,
                 "colour", ("豆沙 rose", "正红 red", "奶茶 nude")),
            Kind("氨基酸洁面", "Amino Cleanser", "beauty/skin/cleanser", ("skincare", "vegan"), 8900, 180,
                 "size", ("100 ml", "150 ml", "200 ml")),
            Kind("舒缓面膜", "Calming Mask", "beauty/skin/mask", ("skincare", "self-care"), 9900, 250,
                 "pack", ("5", "10", "20")),
        ),
        ("HZ", "SH", "GZ", "TJ"),
    ),
    House(
        "shancha", "SC", "山茶里", "Camellia Lane Tea", "小产区茶与茶器。Small-estate tea and tea ware.",
        (
            Kind("白茶", "White Tea", "food/tea/white", ("tea", "wellness"), 13900, 150,
                 "weight", ("50 g", "100 g", "250 g")),
            Kind("乌龙茶", "Oolong", "food/tea/oolong", ("tea", "reading"), 11900, 160,
                 "weight", ("50 g", "100 g", "250 g")),
            Kind("花果茶", "Fruit Infusion", "food/tea/infusion", ("tea", "self-care"), 6900, 140,
                 "pack", ("12", "24", "36")),
            Kind("盖碗茶具", "Gaiwan Set", "home/kitchen/teaware", ("tea", "craft"), 23900, 900,
                 "colour", ("青 celadon", "白 white", "黑 tenmoku")),
            Kind("冷泡壶", "Cold Brew Jug", "home/kitchen/teaware", ("tea", "fitness"), 9900, 600,
                 "size", ("0.6 l", "1 l", "1.5 l")),
        ),
        ("XM", "HZ", "GZ", "BJ"),
    ),
    House(
        "guman", "GM", "谷满厨房", "Grainfull Kitchen", "谷物、酱料与好锅。Grains, sauces and good pans.",
        (
            Kind("五谷米", "Five-Grain Rice", "food/grain/rice", ("cooking", "wellness"), 5900, 1000,
                 "weight", ("1 kg", "2 kg", "5 kg")),
            Kind("冷榨油", "Cold-Pressed Oil", "food/oil/seed", ("cooking", "vegan"), 7900, 950,
                 "size", ("0.5 l", "1 l", "2 l")),
            Kind("手工酱", "Hand-Made Sauce", "food/sauce", ("cooking", "snacks"), 4900, 380,
                 "taste", ("原味 plain", "微辣 mild", "香辣 hot")),
            Kind("铸铁锅", "Cast-Iron Pan", "home/kitchen/pan", ("cooking", "home"), 32900, 2400,
                 "size", ("20 cm", "24 cm", "28 cm")),
            Kind("早餐燕麦", "Breakfast Oats", "food/grain/oats", ("fitness", "kids"), 4500, 500,
                 "pack", ("1", "3", "6")),
        ),
        ("TJ", "BJ", "SU", "SZ"),
    ),
    House(
        "nordlys", "ND", "北光家居", "Nordlys Home", "木、棉、光。Wood, cotton, light.",
        (
            Kind("香薰蜡烛", "Scented Candle", "home/scent/candle", ("home", "self-care"), 15900, 420,
                 "scent", ("雪松 cedar", "无花果 fig", "白麝 musk")),
            Kind("亚麻床品", "Linen Bedding", "home/textile/bed", ("home", "minimalist"), 59900, 1800,
                 "size", _SIZES),
            Kind("阅读灯", "Reading Lamp", "home/light/lamp", ("home", "reading"), 28900, 1300,
                 "colour", ("木 oak", "黑 black", "白 white")),
            Kind("羊毛毯", "Wool Throw", "home/textile/throw", ("home", "camping"), 42900, 1100,
                 "colour", ("灰 grey", "赭 ochre", "绿 green")),
            Kind("收纳盒", "Storage Box", "home/storage/box", ("home", "kids"), 8900, 700, "size", _SIZES),
        ),
        ("SU", "SH", "SZ", "TJ"),
        world=True,
    ),
    House(
        "yueye", "YY", "跃野", "Yueye Outdoor", "轻装出发。Go light.",
        (
            Kind("越野跑鞋", "Trail Shoe", "sport/shoes/trail", ("running", "outdoor"), 49900, 620,
                 "size", ("39", "41", "43")),
            Kind("速干衣", "Quick-Dry Shirt", "sport/wear/shirt", ("running", "fitness"), 15900, 160,
                 "size", _SIZES),
            Kind("露营灯", "Camp Lantern", "sport/camp/light", ("camping", "outdoor"), 18900, 450,
                 "colour", ("军绿 green", "沙 sand", "黑 black")),
            Kind("瑜伽垫", "Yoga Mat", "sport/yoga/mat", ("yoga", "fitness"), 19900, 1500,
                 "size", ("4 mm", "6 mm", "8 mm")),
            Kind("保温水壶", "Insulated Bottle", "sport/gear/bottle", ("outdoor", "travel"), 12900, 380,
                 "size", ("0.5 l", "0.75 l", "1 l")),
        ),
        ("GZ", "SZ", "HZ", "BJ"),
        world=True,
    ),
    House(
        "beike", "BK", "贝壳妈妈", "Shell & Cradle", "给宝宝的第一年。For the first years.",
        (
            Kind("有机棉连体衣", "Organic Romper", "baby/wear/romper", ("baby", "organic"), 13900, 140,
                 "size", ("3 m", "6 m", "12 m")),
            Kind("婴儿润肤乳", "Baby Lotion", "baby/care/lotion", ("baby", "skincare"), 8900, 220,
                 "size", ("100 ml", "200 ml", "400 ml")),
            Kind("木制玩具", "Wooden Toy", "baby/toys/wood", ("baby", "kids"), 11900, 350,
                 "shape", ("车 car", "积木 blocks", "动物 animals")),
            Kind("辅食杯", "Weaning Cup", "baby/feeding/cup", ("baby", "cooking"), 6900, 180,
                 "colour", ("粉 pink", "蓝 blue", "黄 yellow")),
            Kind("妈咪包", "Changing Bag", "baby/bags/changing", ("baby", "travel"), 32900, 900,
                 "colour", ("燕麦 oat", "墨 ink", "橄榄 olive")),
        ),
        ("SU", "HZ", "GZ", "XM"),
    ),
    House(
        "pawfolk", "PF", "毛伙伴", "Pawfolk", "和它一起生活。Living with them.",
        (
            Kind("鲜肉猫粮", "Fresh Cat Food", "pet/cat/food", ("pets", "cats"), 18900, 1500,
                 "weight", ("1.5 kg", "3 kg", "5 kg")),
            Kind("冻干狗零食", "Freeze-Dried Treats", "pet/dog/treats", ("pets", "dogs"), 6900, 120,
                 "taste", ("鸡 chicken", "鸭 duck", "三文鱼 salmon")),
            Kind("猫抓板", "Scratch Board", "pet/cat/toys", ("cats", "home"), 5900, 1100, "size", _SIZES),
            Kind("牵引绳", "Walking Lead", "pet/dog/walk", ("dogs", "outdoor"), 9900, 240,
                 "colour", ("橙 orange", "蓝 blue", "黑 black")),
            Kind("宠物窝", "Pet Bed", "pet/home/bed", ("pets", "home"), 22900, 1700, "size", _SIZES),
        ),
        ("SZ", "TJ", "SH", "XM"),
    ),
    House(
        "mobai", "MB", "墨白", "Inkwhite Studio", "纸、笔、慢时光。Paper, pens, slow time.",
        (
            Kind("手帐本", "Planner", "books/stationery/planner", ("stationery", "reading"), 7900, 320,
                 "colour", ("朱 red", "黛 indigo", "米 cream")),
            Kind("钢笔", "Fountain Pen", "office/pen/fountain", ("stationery", "craft"), 26900, 60,
                 "nib", ("EF", "F", "M")),
            Kind("毛笔套装", "Brush Set", "office/pen/brush", ("craft", "kids"), 15900, 400,
                 "size", ("小 small", "中 medium", "大 large")),
            Kind("帆布书袋", "Canvas Tote", "fashion/bags/tote", ("reading", "travel"), 8900, 300,
                 "colour", ("白 white", "墨 black", "卡其 khaki")),
            Kind("诗歌日历", "Poem Calendar", "books/calendar", ("reading", "stationery"), 6900, 450,
                 "size", ("台 desk", "墙 wall", "袖珍 pocket")),
        ),
        ("BJ", "SH", "XM", "SU"),
        world=True,
    ),
)  # fmt: skip

CIRCLES = (
    Circle("huajian", "敏感肌互助群", "Gentle Skin Circle", "wecom_group", 620,
           ("skincare", "sensitive", "baby", "tea")),
    Circle("huajian", "通勤妆研究所", "Commuter Make-up Lab", "mini_program", 480,
           ("makeup", "beauty", "travel", "stationery")),
    Circle("shancha", "午后茶友", "Afternoon Tea Friends", "wecom_group", 540,
           ("tea", "reading", "craft", "self-care")),
    Circle("shancha", "茶山会员", "Tea Hill Members", "member_club", 380,
           ("tea", "wellness", "home", "gift")),
    Circle("guman", "周末厨房", "Weekend Kitchen", "wechat_group", 520,
           ("cooking", "kids", "home", "snacks")),
    Circle("guman", "轻食打卡", "Light Meals Daily", "mini_program", 360,
           ("fitness", "cooking", "vegan", "yoga")),
    Circle("nordlys", "小家布置", "Small Home Ideas", "mini_program", 430,
           ("home", "minimalist", "cats", "reading")),
    Circle("nordlys", "北光来信", "Letters from Nordlys", "mailing_list", 270,
           ("home", "camping", "reading", "travel")),
    Circle("yueye", "城市夜跑", "City Night Run", "wecom_group", 450,
           ("running", "fitness", "wellness", "dogs")),
    Circle("beike", "新手妈妈", "New Mothers", "wecom_group", 410,
           ("baby", "skincare", "cooking", "organic")),
    Circle("pawfolk", "铲屎官直播间", "Cat People Live", "live_room", 320,
           ("cats", "pets", "home", "snacks")),
    Circle("mobai", "手帐与书", "Planners and Books", "wechat_group", 220,
           ("stationery", "reading", "craft", "tea")),
)  # fmt: skip
