"""Signs of a wrong encoding: many where it is one, none or nearly none in real text of many languages."""

import quopri

import pytest

from monoglot.editor import embedded
from monoglot.editor.text.corpus import open_corpus
from monoglot.editor.text.encoding import MANY, WINDOW
from monoglot.editor.text.signs import signs

REAL = {
    "ru": (
        "Съешь же ещё этих мягких французских булок, да выпей чаю. Сегодня утром Иван пошёл в магазин за "
        "хлебом и молоком, а потом вернулся домой, где его ждала вся семья. Они долго разговаривали о погоде,"
        " о работе и о том, куда поехать летом. В конце концов решили отправиться на море, потому что дети "
        "давно мечтали увидеть дельфинов. Мать приготовила ужин: борщ, картошку с грибами и яблочный пирог. "
        "Отец включил телевизор, но передача оказалась скучной. Вечером пришли соседи, принесли мёд и "
        "рассказали свежие новости. Молодой инженер из Новосибирска изобрёл двигатель, который потребляет "
        "вдвое меньше топлива. Учёные подтвердили открытие, однако промышленность пока не спешит. Зимой здесь"
        " бывает очень холодно, и реки замерзают до самого дна. Охотники рассказывают истории о медведях, "
        "которые приходят в деревню. Никто не верит, хотя следы видели многие."
    ),
    "fr": (
        "Déjà l'été s'achève et les élèves retournent à l'école, où les maîtres préparés les attendent. La "
        "forêt était pleine de chênes âgés, et la rivière coulait près du château. À côté, une vieille dame "
        "vendait des gâteaux sucrés, des crêpes et du café brûlant. Le garçon français a reçu une lettre "
        "écrite à la main par sa sœur aînée, qui étudie la géographie à l'université. Elle espère être "
        "médecin, mais hésite encore. Où êtes-vous allés après le dîner ? Nous avons été très étonnés par la "
        "beauté du théâtre rénové. L'opéra dure près de trois heures, et la scène représente un marché bondé."
        " Le président a déclaré que la réforme serait achevée avant décembre. Les députés ont évoqué des "
        "problèmes économiques, la pauvreté, l'écologie et la sécurité. Malgré la tempête, les bateaux sont "
        "arrivés à l'île. Un élève zélé a répété son poème préféré, puis a gagné le premier prix. Le prêtre "
        "bénit les mariés dans l'église décorée de fleurs séchées."
    ),
    "de": (
        "Der große Bär läuft über die Straße und hört die Vögel schön singen. Während die Mädchen grüne Äpfel"
        " pflücken, gießt der Gärtner die Blümchen. Öfter müssen wir früh aufstehen, weil die Züge pünktlich "
        "fahren. Die Universität München eröffnet nächstes Jahr ein Gebäude für Physiker. Übrigens heißt er "
        "Jürgen Müller und kommt aus Österreich. Das Gefühl, daß alles möglich wäre, verläßt ihn nie. "
        "Schließlich können größere Städte mehr Wohnungen für Ältere bauen. Natürlich spürt man die Wärme "
        "früher im Süden. Die Bäuerin verkauft Käse, Brötchen und Würste auf dem Markt. Zwölf Schüler übten "
        "das Märchen, während der König gähnte. Die Prüfung wäre schwieriger, hätten wir keine Bücher. "
        "Glücklicherweise lösten die Gäste das Rätsel. Häufig träumt sie vom Fluß und den Brücken."
    ),
    "pl": (
        "Pchnąć w tę łódź jeża lub ośm skrzyń fig. Wczoraj wieczorem poszliśmy na spacer wzdłuż rzeki, gdzie "
        "kwitły piękne kwiaty. Żółte liście spadały z drzew, a dzieci śmiały się głośno. Mój brat studiuje "
        "medycynę w Łodzi i często pisze długie listy. Mówił, że życie w dużym mieście jest ciężkie, ale "
        "ciekawe. Książki leżały na półce obok świeżo upieczonego chleba. Następnego dnia pojechaliśmy w "
        "góry, żeby zobaczyć zamek królewski. Przewodnik opowiedział nam o smoku, który mieszkał pod "
        "wzgórzem. Rząd ogłosił, że podwyżki płac będą możliwe dopiero w przyszłym roku. Związki zawodowe "
        "zapowiedziały strajk, jeśli rozmowy się nie powiodą. Pociąg spóźnił się o godzinę, więc wróciliśmy "
        "późno. Kąpiel w jeziorze była świetna, choć woda zimna."
    ),
    "el": (
        "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. Ο ήλιος ανατέλλει πάνω από τη θάλασσα και τα παιδιά παίζουν στην "
        "παραλία. Η γιαγιά ετοίμασε φαγητό για όλη την οικογένεια, ενώ ο παππούς διάβαζε εφημερίδα. Στην "
        "Αθήνα υπάρχουν πολλά μουσεία και αρχαία μνημεία που επισκέπτονται τουρίστες από όλο τον κόσμο. Το "
        "βράδυ ακούγαμε μουσική και χορεύαμε μέχρι αργά. Οι μαθητές έγραψαν εξετάσεις στα μαθηματικά. Η "
        "κυβέρνηση ανακοίνωσε νέα μέτρα για την οικονομία. Πολλοί άνθρωποι πιστεύουν ότι η αλλαγή είναι "
        "απαραίτητη. Ο καιρός θα είναι ζεστός την Κυριακή, με λίγα σύννεφα στα βόρεια."
    ),
    "tr": (
        "Pijamalı hasta yağız şoföre çabucak güvendi. Dün akşam annem bize güzel bir çorba pişirdi, babam ise"
        " gazete okudu. İstanbul'da hava soğuk olduğu için çocuklar dışarı çıkmadı. Öğretmen sınıfa girdi ve "
        "öğrencilere ödevlerini sordu. Yağmur yağıyordu, ağaçların altında küçük kuşlar ötüyordu. Şehrin "
        "ışıkları gece çok güzel görünüyordu. Üniversiteyi bitirdikten sonra İzmir'e taşındı ve büyük bir "
        "şirkette çalışmaya başladı. Kardeşim müziği çok seviyor, özellikle bağlama çalmayı. Yazın köye gidip"
        " dedemin bahçesinde meyve topluyoruz. Güneş batarken gökyüzü kıpkırmızı oldu. Üçü üçüncü ölçüyü "
        "öğütüyor. Işık hızı değişmez, dedi öğretmenimiz."
    ),
    "cs": (
        "Příliš žluťoučký kůň úpěl ďábelské ódy. Včera večer jsme šli na procházku podél řeky, kde kvetly "
        "krásné květiny. Můj bratr studuje lékařství v Brně a často píše dlouhé dopisy. Říkal, že život ve "
        "velkém městě je těžký, ale zajímavý. Děti si hrály na hřišti a smály se nahlas. Vláda oznámila, že "
        "zvýšení platů bude možné až příští rok. Vlak měl hodinu zpoždění, takže jsme se vrátili pozdě. "
        "Koupání v jezeře bylo skvělé, i když voda byla studená."
    ),
    "hu": (
        "Árvíztűrő tükörfúrógép. Tegnap este sétáltunk a folyó mentén, ahol gyönyörű virágok nyíltak. A "
        "bátyám orvosnak tanul Szegeden, és gyakran ír hosszú leveleket. Azt mondta, hogy a nagyvárosi élet "
        "nehéz, de érdekes. A gyerekek hangosan nevettek. Őszintén szólva a kormány bejelentése meglepő volt."
        " Később esőre fordult az idő, ezért hazamentünk. A könyvek a polcon álltak a frissen sült kenyér "
        "mellett."
    ),
    "uk": (
        "Жебракують філософи при ґанку церкви в Гадячі, ще й шатро їхнє п'яне знаємо. Сьогодні вранці ми "
        "поїхали до Києва, щоб побачити друзів і відвідати музей. Дітям дуже сподобалася подорож, хоча потяг "
        "запізнився на годину. Увечері бабуся зварила борщ із пампушками, а дідусь розповідав казки. Місто "
        "змінилося: з'явилися нові вулиці, сквери та школи. Уряд оголосив про реформу освіти, яку підтримали "
        "вчителі. Цієї зими було мало снігу, але морози стояли міцні."
    ),
    "bg": (
        "Жълтата дюля беше щастлива, че пухът, който цъфна, замръзна като гьон. Вчера вечерта отидохме на "
        "разходка край реката, където цъфтяха красиви цветя. Брат ми учи медицина в София и често пише дълги "
        "писма. Каза, че животът в големия град е тежък, но интересен. Правителството обяви, че увеличението "
        "на заплатите ще бъде възможно догодина."
    ),
    "he": (
        "דג סקרן שט בים מאוכזב ולפתע מצא לו חברה. אתמול בערב הלכנו לטייל לאורך הנהר, שם פרחו פרחים יפים. אחי "
        "לומד רפואה בתל אביב וכותב מכתבים ארוכים. הוא אמר שהחיים בעיר גדולה קשים אבל מעניינים. הילדים צחקו "
        "בקול רם."
    ),
    "ar": (
        "نص حكيم له سر قاطع وذو شأن عظيم. مساء أمس ذهبنا في نزهة على طول النهر حيث تفتحت الأزهار الجميلة. "
        "يدرس أخي الطب في القاهرة ويكتب رسائل طويلة. قال إن الحياة في المدينة الكبيرة صعبة لكنها مثيرة. ضحك "
        "الأطفال بصوت عال."
    ),
    "th": (
        "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า กว่าบรรดาฝูงสัตว์เดรัจฉาน เมื่อวานตอนเย็นเราไปเดินเล่นริมแม่น้ำ "
        "ที่ซึ่งดอกไม้สวยงามบาน พี่ชายของฉันเรียนแพทย์ และมักจะเขียนจดหมายยาวๆ "
        "เขาบอกว่าชีวิตในเมืองใหญ่นั้นยาก แต่น่าสนใจ"
    ),
    "ko": (
        "키스의 고유조건은 입술끼리 만나야 하고 특별한 기술은 필요치 않다. 어제 저녁 우리는 아름다운 꽃이 "
        "핀 강가를 따라 산책했다. 형은 서울에서 의학을 공부하며 자주 긴 편지를 쓴다. 그는 대도시의 삶이 "
        "어렵지만 흥미롭다고 말했다."
    ),
}
WRONG = [  # language, its encoding, what it was read as, a word of what is said
    ("ru", "cp1251", "latin-1", "Latin-1"), ("ru", "cp1251", "cp1252", "Latin-1"), ("ru", "koi8-r", "latin-1", "Latin-1"),
    ("ru", "iso8859-5", "latin-1", "Latin-1"), ("el", "cp1253", "cp1252", "Latin-1"), ("he", "cp1255", "cp1252", "Latin-1"),
    ("ar", "cp1256", "cp1252", "Latin-1"), ("zh", "gbk", "latin-1", "together"), ("zh", "gbk", "cp1252", "together"),
    ("ja", "euc-jp", "latin-1", "no language"), ("pl", "cp1250", "cp1252", "Latin-1"), ("fr", "cp850", "cp1252", "Latin-1"),
    ("fr", "cp1252", "cp1251", "mix Latin and Cyrillic"), ("fr", "cp1252", "koi8-r", "mix Latin and Cyrillic"),
    ("de", "cp1252", "cp1251", "mix Latin and Cyrillic"), ("tr", "cp1254", "cp1251", "mix Latin and Cyrillic"),
    ("fr", "cp1252", "cp1253", "another script"), ("fr", "cp1252", "cp1255", "another script"),
    ("fr", "cp1252", "cp850", "capitals with accents"), ("fr", "cp1252", "mac-roman", "capitals with accents"),
    ("fr", "mac-roman", "cp1252", "capitals with accents"),
    ("ru", "koi8-r", "cp1251", "changed places"), ("ru", "cp1251", "koi8-r", "changed places"),
    ("bg", "cp1251", "koi8-r", "changed places"), ("ru", "iso8859-5", "cp1251", "changed places"),
    ("ru", "cp866", "cp1251", "changed places"),
    ("tr", "cp1254", "cp1252", "stand together"), ("cs", "cp1250", "cp1252", "stand together"),
    ("fr", "cp1252", "cp1250", "stand together"),
    ("ru", "cp1251", "cp437", "no language"), ("th", "cp874", "cp1252", ""),
    ("fr", "cp1252", "gbk", "another script"),
    ("fr", "cp850", "latin-1", "control"), ("ru", "cp866", "latin-1", ""),
    ("fr", "utf-7", "ascii", "UTF-7"), ("de", "utf-7", "ascii", "UTF-7"), ("ru", "utf-7", "ascii", "UTF-7"),
    ("zh", "utf-7", "ascii", "UTF-7"), ("ja", "utf-7", "ascii", "UTF-7"), ("vi", "utf-7", "ascii", "UTF-7"),
    ("ru", "utf-8", "cp1251", "UTF-8 that was read as cp1251"), ("ru", "utf-8", "koi8-r", "UTF-8 that was read as koi8-r"),
]  # fmt: skip


def real(language: str) -> str:
    """About a window of real text."""
    sample = REAL.get(language) or " ".join(open_corpus([embedded.NAME])[language].documents())
    return sample[:WINDOW]


@pytest.mark.parametrize(("language", "encoding", "read_as", "said"), WRONG)
def test_many_signs_where_the_encoding_was_another(language: str, encoding: str, read_as: str, said: str) -> None:
    text = real(language).encode(encoding, "ignore").decode(read_as, "replace").replace("\ufffd", "")
    text = text[:WINDOW]
    count, why = signs(text)
    assert count >= MANY * min(1, len(text) / 1_500)
    assert said in why


@pytest.mark.parametrize("language", ["fr", "de", "ru"])
def test_letters_that_are_spelled_out(language: str) -> None:
    text = real(language)
    for spelled in (
        quopri.encodestring(text.encode()).decode(),
        quopri.encodestring(text.encode("cp1252", "ignore")).decode() if language != "ru" else "",
        text.encode("ascii", "xmlcharrefreplace").decode(),
        text.encode("ascii", "backslashreplace").decode(),
        text.replace("é", "&eacute;").replace("ü", "&uuml;").replace("а", "&#1072;"),
    ):
        assert not spelled or signs(spelled[:WINDOW])[0] >= MANY


@pytest.mark.parametrize("language", [*REAL, "en", "es", "id", "ja", "vi", "zh"])
def test_real_text_has_next_to_none(language: str) -> None:
    assert signs(real(language))[0] <= 2
    assert signs(real(language).upper())[0] <= 4


REAL_WITH_SIGNS = [
    "мРНК, тРНК, рРНК и кДНК: молекулы. Мощность 5 кВт, 7 МэВ, 9 ГГц, КамАЗ и СберБанк. " * 20,
    "Установите Wi-Fi-роутер, iPhone'ом управлять нельзя, SMSки и VIPов не будет. " * 20,
    "Na hÉireann, i nÉirinn, tÁrdán, hÓige, hÚdarás agus tÍosa. " * 30,
    "Shift+PageUp, Ctrl+Alt+Entf, a+b+c, C++17-Code, +49 89 1234567, Option+CommandCtrl+Home. " * 20,
    "La col·lecció, l·l, geht´s, l´été, 5 m², 20 °C, ±3 %, n°5, «ainsi»,«là» et « bien ». " * 20,
    "sinθ, cosφ, 2πr, μm, kΩ, ΔT = 5 K, α-Teilchen und β-Zerfall. " * 20,
    "Þetta er góð bók sem þú ættir að lesa, sagði hún við ömmu í Zürich og ræddi um façade, Müller og Bürger. " * 15,
    "Білім бiлiм қазақ тiлi мен əдебиетi, мектептегi бiрiншi сабақ. " * 20,
    "Üçü üçüncü ölçüyü öğütüyor. Øl på ø, Ærø. Õunapuu õied öösel. " * 20,
    "data:image/png;base64,iVBORw0KGgo+AAAANSUhEUgAAAAUA/AAAFCAYAAACNbyblAAAAHElEQVQI12P4//8+w38GIAXDIBKE0DHxgljNBAAO "
    * 9,
    "https://ru.wikipedia.org/wiki/%D0%A0%D0%BE and \\n, \\t, &amp; &nbsp; &#39; a=b=c; x=E2E. " * 20,
]


@pytest.mark.parametrize("text", REAL_WITH_SIGNS)
def test_what_stands_in_real_text_is_no_mistake(text: str) -> None:
    assert signs(text[:WINDOW])[0] < MANY


def test_no_signs_in_nothing() -> None:
    assert signs("") == (0, "")
    assert signs("plain") == (0, "")
