"""Owns seeded chat messages in eight languages, any of which can be made again alone.

A phrase is 2 to 9 words of one language, as people write it: with spaces or without.
Words are drawn by Zipf's law (exponent 1): first some forty real everyday words, then a
tail of 20,000 that are put together from the language's own syllables, as names, places
and rarer words are; one phrase in eight has a number. So common words are in a tenth of
a language's messages and most words in a handful, as in life, and the dictionary is as
large as one. Message `n` depends on the seed and on `n` alone.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
from bisect import bisect

TAIL = 20_000
_TABLE = 1 << 16
_MASK = (1 << 64) - 1


@dataclasses.dataclass(frozen=True)
class Language:
    code: str
    has_spaces: bool
    head: tuple[str, ...]
    syllables: tuple[str, ...]


def _syllables(onsets: str, vowels: str, codas: str) -> tuple[str, ...]:
    """codas: may begin with a space, for none."""
    ends = ["", *codas.split()]
    return tuple(
        a + v + c for a in onsets.split() for v in vowels.split() for c in ends
    )


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


LANGUAGES = (
    Language(
        "th",
        False,
        _words(
            """ครับ ค่ะ ไม่ ได้ ไป มา กิน ข้าว วันนี้ พรุ่งนี้ บ้าน งาน เงิน โอน แล้ว
            ยัง อยู่ ที่ไหน เมื่อไหร่ สวัสดี ขอบคุณ ร้าน อาหาร น้ำ กาแฟ รถ ติด ฝน
            ตก ประชุม เพื่อน แม่ พ่อ ลูก โรงเรียน ส่ง ของ ราคา เท่าไหร่ บาท ตลาด"""
        ),
        tuple(
            a + v + t + c
            for a in "กขคงจชดตทนบปผพมยรลวสหอ"
            for v in ("", "ั", "ิ", "ี", "ุ", "ู")
            for t in ("", "่", "้")
            for c in ("", "น", "ง", "ก", "ม")
        ),
    ),
    Language(
        "km",
        False,
        _words(
            """បាទ ចាស មិន បាន ទៅ មក ញ៉ាំ បាយ ថ្ងៃនេះ ស្អែក ផ្ទះ ការងារ លុយ ហើយ នៅ
            ឯណា ពេលណា សួស្តី អរគុណ ហាង ម្ហូប ទឹក កាហ្វេ ឡាន ភ្លៀង ប្រជុំ មិត្ត
            ម៉ាក់ ប៉ា កូន សាលា ផ្ញើ តម្លៃ ប៉ុន្មាន ផ្សារ"""
        ),
        tuple(
            a + s + v
            for a in "កខគងចជញដតថទនបផពមយរលវសហអ"
            for s in ("", "្រ", "្ល", "្ន")
            for v in ("", "ា", "ិ", "ី", "ុ", "ូ", "ើ", "ែ", "ំ")
        ),
    ),
    Language(
        "my",
        False,
        _words(
            """ဟုတ်ကဲ့ မဟုတ်ဘူး ရတယ် သွား လာ စား ထမင်း ဒီနေ့ မနက်ဖြန် အိမ် အလုပ်
            ပိုက်ဆံ ပြီးပြီ ရှိ ဘယ်မှာ ဘယ်တော့ မင်္ဂလာပါ ကျေးဇူး ဆိုင် ဟင်း ရေ
            ကော်ဖီ ကား မိုးရွာ အစည်းအဝေး သူငယ်ချင်း အမေ အဖေ ကျောင်း ပို့ ဈေး
            ဘယ်လောက်"""
        ),
        tuple(
            a + m + v
            for a in "ကခဂငစဆဇညတထဒနပဖဗမယရလဝသဟအ"
            for m in ("", "ျ", "ြ", "ွ")
            for v in ("", "ာ", "ိ", "ီ", "ု", "ူ", "ေ", "ော", "င်", "န်", "တ်")
        ),
    ),
    Language(
        "vi",
        True,
        _words(
            """không được đi về ăn cơm hôm nay ngày mai nhà việc tiền chuyển khoản
            rồi chưa ở đâu khi nào chào cảm ơn quán bánh mì phở nước cà phê xe kẹt
            mưa họp bạn mẹ bố con trường gửi hàng giá bao nhiêu đồng chợ Đà Nẵng
            Hà Nội"""
        ),
        _syllables(
            "b c ch d đ g gi h kh l m n ng nh ph qu r s t th tr v x",
            "a á à ả ạ ă ắ ằ â ấ ầ ậ e é ê ế ề ệ i í ì o ó ò ô ố ồ ộ ơ ớ ờ u ú ù ư ứ ừ",
            "n ng m t c nh",
        ),
    ),
    Language(
        "id",
        True,
        _words(
            """iya tidak bisa pergi datang makan nasi hari ini besok rumah kerja uang
            transfer sudah belum di mana kapan halo terima kasih warung makanan
            air kopi mobil macet hujan rapat teman ibu ayah anak-anak sekolah
            kirim barang harga berapa rupiah pasar saya kamu dengan untuk yang"""
        ),
        _syllables(
            "b c d g h j k l m n ng ny p r s t w y", "a e i o u", "n ng r s t k h"
        ),
    ),
    Language(
        "tl",
        True,
        _words(
            """oo hindi pwede punta dito kain kanin ngayon bukas bahay trabaho pera
            padala na pa saan kailan kumusta salamat tindahan pagkain tubig kape
            sasakyan trapik ulan miting kaibigan nanay tatay anak eskwela magkano
            piso palengke ako ikaw siya kasi lang po ba ng mga Parañaque"""
        ),
        _syllables(
            "b d g h k l m n ng p r s t w y", "a e i o u", "n ng s t k g l y"
        ),
    ),
    Language(
        "zh",
        False,
        _words(
            """好的 不 可以 去 来 吃饭 今天 明天 家 工作 钱 转账 已经 还没
            在哪里 什么时候 你好 谢谢 店 菜 水 咖啡 车 堵车 下雨 开会 朋友
            妈妈 爸爸 孩子 学校 发 东西 价格 多少 块 市场 火锅 我们 现在"""
        ),
        tuple(chr(0x4E00 + 7 * n) for n in range(2_900)),
    ),
    Language(
        "en",
        True,
        _words(
            """yes no can go come eat lunch today tomorrow home work money transfer
            already not yet where when hello thanks restaurant food water coffee
            car traffic rain meeting friend mother father children school send
            package price how much dollars market the is at for with we you don't"""
        ),
        _syllables(
            "b c ch d f g h j k l m n p r s sh st t th tr w", "a e i o u ea ou ai",
            "n r s t ck ll ng rd st",
        ),
    ),
)  # fmt: skip


class Phrases:
    """text(n): of message n. words(n): its language, and the words it is made of."""

    def __init__(self, seed: int) -> None:
        self._seed = (seed * 0x9E37_79B9_7F4A_7C15 + 0x1234_5678) & _MASK
        self._tables = [_table(language, seed) for language in LANGUAGES]

    def words(self, n: int) -> tuple[Language, list[str]]:
        h = _mixed(self._seed + n)
        which = h & 7
        table = self._tables[which]
        words = []
        for _ in range(2 + (h >> 3) % 8):
            h = (h * 6_364_136_223_846_793_005 + 1_442_695_040_888_963_407) & _MASK
            words.append(table[h >> 48])
        if h >> 40 & 7 == 0:
            words.append(str(h >> 30 & 1023))
        return LANGUAGES[which], words

    def text(self, n: int) -> str:
        language, words = self.words(n)
        return (" " if language.has_spaces else "").join(words)


def _mixed(h: int) -> int:
    """splitmix64."""
    h = (h + 0x9E37_79B9_7F4A_7C15) & _MASK
    h = ((h ^ h >> 30) * 0xBF58_476D_1CE4_E5B9) & _MASK
    h = ((h ^ h >> 27) * 0x94D0_49BB_1331_11EB) & _MASK
    return h ^ h >> 31


def _table(language: Language, seed: int) -> list[str]:
    """Words, each as often as Zipf's law has it; the k-th of the tail shares its place
    with others, so that all 20,000 are there."""
    dice = random.Random(f"{seed} {language.code}")
    tail: dict[str, None] = {}
    while len(tail) < TAIL:
        size = dice.choice((1, 2, 2, 3, 3, 4) if language.code != "vi" else (1, 1, 2))
        tail["".join(dice.choices(language.syllables, k=size))] = None
    words = [*language.head, *tail]
    weights = list(itertools.accumulate(1 / (k + 2.7) for k in range(len(words))))
    return [
        words[min(bisect(weights, dice.random() * weights[-1]), len(words) - 1)]
        for _ in range(_TABLE)
    ]
