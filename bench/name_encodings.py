"""Count how often the encoding of an archive's names is found: python bench/name_encodings.py.

Folder names are drawn from words that people use as classes, in several languages and each in the
code pages that their systems wrote into zips. Each draw of two, three or six names is one archive.
A wrong answer becomes wrong labels; an asked one is the question `name_encoding_unknown`.
"""

# ruff: noqa: RUF001, S311 - words are spelled as they are, and draws are to be repeatable.
import random
from collections import Counter

from core.ingest.name_encoding import decide
from topwork.errors import NameEncodingUnknown

DRAWS = 60
SIZES = (2, 3, 6)
WORDS = {
    "Chinese": (
        "猫 狗 鸟 马 牛 羊 玫瑰 郁金香 向日葵 雏菊 蒲公英 苹果 香蕉 橙子 "
        "葡萄 西瓜 正常 缺陷 划痕 裂纹 气泡 塑料 纸 金属 玻璃 垃圾 好 坏 "
        "汽车 卡车 飞机 合格 不合格 模型 肺炎 健康 病害 良性 恶性 小麦 "
        "水稻 其他 训练 新建文件夹 "
    ),
    "Chinese, traditional": (
        "貓 狗 鳥 馬 蘋果 香蕉 橘子 玫瑰 鬱金香 向日葵 正常 異常 缺陷 "
        "刮痕 塑膠 紙類 金屬 玻璃 功能 許可 垃圾 汽車 飛機 合格 不合格 "
        "健康 病害 良性 惡性 其他 蓋子 新增資料夾 "
    ),
    "Japanese": (
        "猫 犬 鳥 馬 りんご バナナ みかん ネコ イヌ 良品 不良品 キズ 汚れ "
        "表 裏 薔薇 桜 ひまわり プラスチック 紙 ガラス 金属 正常 異常 "
        "ソース 車 トラック 飛行機 その他 新しいフォルダー ラーメン 寿司 合格 "
        "不合格 "
    ),
    "Korean": (
        "고양이 개 강아지 새 말 사과 바나나 오렌지 정상 불량 장미 튤립 "
        "해바라기 플라스틱 종이 유리 금속 자동차 트럭 비행기 기타 양품 양성 "
        "음성 김치 비빔밥 불고기 새폴더 "
    ),
    "Russian": (
        "кошка собака птица лошадь яблоко банан апельсин роза тюльпан подсолнух брак "
        "норма пластик бумага стекло металл Кошки Собаки Яблоки машина грузовик "
        "самолёт прочее хорошие плохие гриб берёза дуб Новая_папка "
    ),
    "German": (
        "Löwe Bär Hund Äpfel Birnen Vögel Straße Müll Glas Papier Käfer "
        "Schmetterling Blüte Grün Blau Übrige Kühe Schäden Pfütze Öl gut schlecht "
        "Fußgänger Brötchen Käse Möhre Gemüse Hänge "
    ),
    "French": (
        "café thé chat chien pomme poire forêt fenêtre éléphant zèbre cheval défaut "
        "normal déchets plastique verre métal papier château église forêt pêche "
        "cerise à_trier été hiver Élève "
    ),
    "Spanish": (
        "niño niña perro gato manzana plátano camión avión árbol león ratón pájaro "
        "águila montaña sartén basura plástico cartón vidrio señal "
    ),
    "Portuguese": (
        "cão gato maçã limão pão avião coração maçãs mamão pássaro cavalo leão "
        "caminhão não_conforme bom ruim lixo plástico "
    ),
    "Polish": (
        "kot pies żaba mysz łoś lew róża tulipan jabłko gruszka śliwka ptak koń "
        "krowa dąb świerk żółty źródło pieczywo ser błąd dobry zły "
    ),
    "Czech": (
        "kočka pes růže tulipán jablko hruška kůň kráva myš žába lev medvěd dřevo "
        "sklo papír plast kov dobrý špatný šroub "
    ),
    "Turkish": (
        "köpek kuş çiçek ağaç kedi elma armut üzüm güneş gül şeftali cam kağıt "
        "plastik iyi kötü balık "
    ),
    "Greek": (
        "γάτα σκύλος πουλί άλογο μήλο μπανάνα τριαντάφυλλο τουλίπα γυαλί χαρτί μέταλλο καλό κακό "
    ),
    "Hebrew": ("חתול כלב ציפור סוס תפוח בננה ורד צבעוני זכוכית נייר מתכת טוב רע "),
    "Arabic": ("قطة كلب طائر حصان تفاح موز وردة زجاج ورق معدن جيد سيء "),
    "Thai": ("แมว หมา นก ม้า แอปเปิล กล้วย กุหลาบ แก้ว กระดาษ โลหะ ดี เสีย "),
}
CODE_PAGES = {
    "Chinese": ("gbk", "utf-8"),
    "Chinese, traditional": ("cp950", "utf-8"),
    "Japanese": ("cp932", "utf-8", "euc_jp"),
    "Korean": ("cp949", "utf-8"),
    "Russian": ("cp1251", "cp866", "koi8_r", "utf-8"),
    "German": ("cp1252", "cp850", "cp437", "utf-8"),
    "French": ("cp1252", "cp850", "cp437", "utf-8"),
    "Spanish": ("cp1252", "cp850", "utf-8"),
    "Portuguese": ("cp1252", "cp850", "utf-8"),
    "Polish": ("cp1250", "cp852", "utf-8"),
    "Czech": ("cp1250", "cp852", "utf-8"),
    "Turkish": ("cp1254", "cp857", "utf-8"),
    "Greek": ("cp1253", "cp737", "utf-8"),
    "Hebrew": ("cp1255", "cp862", "utf-8"),
    "Arabic": ("cp1256", "utf-8"),
    "Thai": ("cp874", "utf-8"),
}


def answer(names: list[str], encoding: str) -> str:
    """Return `right`, `wrong`, `asked` or `none to find` for an archive with these folders."""
    stored = [f"{name}/".encode(encoding) for name in names]
    stored = [name for name in stored if not name.isascii()]
    if not stored:
        return "none to find"
    try:
        found, _ = decide(stored)
    except NameEncodingUnknown:
        return "asked"
    same = all(name.decode(found) == name.decode(encoding) for name in stored)
    return "right" if same else "wrong"


def main() -> None:
    """Print a row for each language, code page and number of folders."""
    chance = random.Random(1)
    total: Counter[str] = Counter()
    for language, words in WORDS.items():
        for encoding in CODE_PAGES[language]:
            usable = [word for word in words.split() if _fits(word, encoding)]
            for size in SIZES:
                draws = (chance.sample(usable, size) for _ in range(DRAWS))
                counts = Counter(answer(draw, encoding) for draw in draws)
                total += counts
                shares = [f"{counts[key]:4d} {key}" for key in ("right", "asked", "wrong")]
                print(f"{language:21s} {encoding:8s} {size} folders", *shares)
    print("in all", dict(total))


def _fits(word: str, encoding: str) -> bool:
    try:
        return bool(word.encode(encoding))
    except UnicodeEncodeError:
        return False


if __name__ == "__main__":
    main()
