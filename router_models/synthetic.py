"""Prompts written by this script, not by users: everyday chat at one end, proofs, designs and hard code at the other.

The pool holds benchmark questions only; nothing in it says that "hi" needs no large model or that a proof needs one.
These rows say so. Their labels are our judgement, not a measurement: the manifest and the card mark them, and no
figure is computed on them. Every fifth template, in all languages at once, is one bench to hold out: the calibration
sees how unseen wordings rank.
"""

# ruff: noqa: E501, RUF001  # one template a line reads best, and other scripts have their own punctuation

import random
from itertools import product

from router_models.data import Example

SOURCE = "synthetic"
FOLDS = 5

# (weak mean, strong mean, win rate) we expect of a 1-9B and a 70B+ model.
LEVELS: dict[str, tuple[float, float, float]] = {
    "easy": (0.97, 0.99, 0.02),
    "middle": (0.75, 0.90, 0.22),
    "hard": (0.15, 0.90, 0.80),
}

EASY: dict[str, tuple[str, ...]] = {
    "en": (
        "hi", "hello", "hey there", "Hello, how are you?", "Good morning!", "thanks", "thank you so much", "ok", "bye",
        "yes", "What can you do?", "Who are you?", "Tell me a joke", "lol", "nice", "What is the capital of {country}?",
        "Translate '{phrase}' to {language}.", "How do you say '{phrase}' in {language}?", "What is {digit} + {digit}?",
        "How do you spell '{word}'?", "What does '{word}' mean?", "Give me a synonym for {word}.",
        "Who wrote {book}?", "What colour is the sky?", "How many days are in a week?", "Convert {digit} km to miles.",
        "Write '{phrase}' in capital letters.", "Fix the spelling: {phrase}", "Is {word} a noun or a verb?",
        "Name three {things}.", "What language is spoken in {country}?", "Say '{phrase}'.", "What's the opposite of {word}?",
        "What time is it in {country}?", "Remind me to buy {things}", "Play some music", "Set a timer for {digit} minutes",
    ),
    "de": (
        "hallo", "danke", "Guten Morgen!", "Wie geht es dir?", "tschüss", "Was ist die Hauptstadt von {country}?",
        "Übersetze '{phrase}' ins Englische.", "Was ist {digit} + {digit}?", "Was bedeutet '{word}'?",
        "Erzähl mir einen Witz.", "Nenne drei {things}.", "Wer schrieb {book}?",
    ),
    "fr": (
        "bonjour", "salut", "merci beaucoup", "Comment ça va ?", "Quelle est la capitale de {country} ?",
        "Traduis « {phrase} » en anglais.", "Combien font {digit} + {digit} ?", "Que veut dire « {word} » ?",
        "Raconte-moi une blague.", "Cite trois {things}.", "Qui a écrit {book} ?", "au revoir",
    ),
    "es": (
        "hola", "gracias", "Buenos días", "¿Cómo estás?", "¿Cuál es la capital de {country}?", "adiós",
        "Traduce '{phrase}' al inglés.", "¿Cuánto es {digit} + {digit}?", "¿Qué significa '{word}'?",
        "Cuéntame un chiste.", "Nombra tres {things}.", "¿Quién escribió {book}?",
    ),
    "pt": (
        "olá", "oi, tudo bem?", "obrigado", "Bom dia!", "Qual é a capital de {country}?", "tchau",
        "Traduza '{phrase}' para o inglês.", "Quanto é {digit} + {digit}?", "O que significa '{word}'?",
        "Conte uma piada.", "Diga três {things}.", "Quem escreveu {book}?",
    ),
    "zh": (
        "你好", "谢谢", "早上好", "你是谁？", "再见", "{country}的首都是哪里？", "把“{phrase}”翻译成英文。",
        "{digit}加{digit}等于多少？", "“{word}”是什么意思？", "讲个笑话", "一周有几天？", "谁写了{book}？",
    ),
    "ja": (
        "こんにちは", "ありがとう", "おはようございます", "元気ですか？", "さようなら", "{country}の首都はどこですか？",
        "「{phrase}」を英語に翻訳してください。", "{digit}足す{digit}はいくつですか？", "「{word}」の意味は何ですか？",
        "冗談を言って", "一週間は何日ですか？", "{book}を書いたのは誰ですか？",
    ),
    "hi": (
        "नमस्ते", "धन्यवाद", "सुप्रभात", "आप कैसे हैं?", "{country} की राजधानी क्या है?", "अलविदा",
        "'{phrase}' का अंग्रेज़ी में अनुवाद करो।", "{digit} और {digit} कितना होता है?", "'{word}' का मतलब क्या है?",
        "एक चुटकुला सुनाओ", "{book} किसने लिखा?",
    ),
    "ar": (
        "مرحبا", "شكرا", "صباح الخير", "كيف حالك؟", "ما هي عاصمة {country}؟", "مع السلامة",
        "ترجم '{phrase}' إلى الإنجليزية.", "كم يساوي {digit} + {digit}؟", "ما معنى '{word}'؟", "احك لي نكتة",
        "من كتب {book}؟",
    ),
}  # fmt: skip

MIDDLE: dict[str, tuple[str, ...]] = {
    "en": (
        "Write a short poem about {things}.", "Explain {topic} to a beginner.", "Summarise the main ideas of {topic}.",
        "Write a polite email declining an invitation to a talk on {topic}.", "Give me tips for learning {topic}.",
        "Write a Python function that reverses a string.", "What are the pros and cons of {topic}?",
    ),
    "de": ("Schreibe ein kurzes Gedicht über {things}.", "Erkläre {topic} für Anfänger."),
    "fr": ("Écris un court poème sur {things}.", "Explique {topic} à un débutant."),
    "es": ("Escribe un poema corto sobre {things}.", "Explica {topic} a un principiante."),
    "pt": ("Escreva um poema curto sobre {things}.", "Explique {topic} a um iniciante."),
    "zh": ("写一首关于{things}的短诗。", "向初学者解释{topic}。"),
    "ja": ("{things}について短い詩を書いてください。", "{topic}を初心者に説明してください。"),
    "hi": ("{things} पर एक छोटी कविता लिखो।", "{topic} को सरल शब्दों में समझाओ।"),
    "ar": ("اكتب قصيدة قصيرة عن {things}.", "اشرح {topic} لمبتدئ."),
}  # fmt: skip

HARD: dict[str, tuple[str, ...]] = {
    "en": (
        "Prove that {claim}.", "Give a rigorous proof that {claim}, and say where each hypothesis is used.",
        "Show by induction or by contradiction that {claim}.", "Is it true that {claim}? Prove it or give a counterexample.",
        "Implement {system} in {code} and prove its correctness.", "Prove the correctness of {system}.",
        "Design {system}: state the invariants, the failure modes and how each is handled, and justify every trade-off.",
        "Write {system} in {code} with tests, without using locks, and explain why it has no data race.",
        "Here is a deadlock in {system} that shows once a week. Find every interleaving that can cause it and refactor the code so that none remains.", "Derive from first principles a lower bound on the complexity of {system}.",
        "Develop a detailed, step-by-step plan to migrate {system} with no downtime, with rollback at every step, a cost estimate and a risk analysis.", "Let G be a finite group. Prove or disprove: {claim}.",
        "Show that {claim}.", "Let f be continuous on [0, 1]. Show that {claim}.", "Suppose n > 2. Show that {claim}.",
        "Design the architecture of {system} for ten million users and analyse its consistency and latency.",
    ),
    "de": (
        "Beweise, dass {claim}.", "Beweise: {claim}.", "Gib einen strengen Beweis dafür, dass {claim}.", "Zeige durch Widerspruch, dass {claim}.", "Implementiere {system} in {code} und beweise die Korrektheit.",
        "Entwirf die Architektur für {system} und begründe jede Entscheidung.", "Analysiere alle Fehlerfälle von {system}.",
    ),
    "fr": (
        "Démontrez que {claim}.", "Prouve que {claim}.", "Montre par l'absurde que {claim} : donne une preuve rigoureuse.",
        "Implémente {system} en {code} et prouve sa correction.",
        "Concevez l'architecture de {system} et justifiez chaque choix.", "Analysez tous les modes de panne de {system}.",
    ),
    "es": (
        "Demuestra que {claim}.", "Demuestre que {claim}.", "Prueba por contradicción que {claim}, con una demostración rigurosa.",
        "Implementa {system} en {code} y demuestra que es correcto.",
        "Diseña la arquitectura de {system} y justifica cada decisión.", "Analiza todos los fallos posibles de {system}.",
    ),
    "pt": (
        "Prove que {claim}.", "Demonstre que {claim}.", "Demonstre por contradição que {claim}, com uma prova rigorosa.",
        "Implemente {system} em {code} e prove a correção.", "Projete a arquitetura de {system} e justifique cada decisão.",
        "Analise todos os modos de falha de {system}.",
    ),
    "zh": (
        "证明：{claim}。", "请用反证法严格证明{claim}。", "用{code}实现{system}，并证明其正确性。",
        "设计{system}的架构，并论证每个取舍。", "分析{system}的所有故障模式。",
    ),
    "ja": (
        "{claim}ことを証明してください。", "背理法で{claim}ことを厳密に証明せよ。", "{code}で{system}を実装し、正しさを証明してください。",
        "{system}のアーキテクチャを設計し、各判断の理由を説明してください。", "{system}の障害モードをすべて分析してください。",
    ),
    "hi": (
        "सिद्ध कीजिए कि {claim}।", "विरोधाभास से सिद्ध करो कि {claim}, पूरा प्रमाण दो।", "{code} में {system} लागू करो और उसकी सत्यता सिद्ध करो।",
        "{system} का आर्किटेक्चर डिज़ाइन करो और हर निर्णय का कारण दो।",
    ),
    "ar": (
        "أثبت أن {claim}.", "برهن بالتناقض أن {claim} مع إثبات كامل.", "نفذ {system} بلغة {code} وأثبت صحته.",
        "صمم بنية {system} مع تحليل كل قرار.",
    ),
}  # fmt: skip

_CLAIMS_EN = (
    "the square root of 2 is irrational", "there are infinitely many primes of the form 6k+5",
    "every bounded monotone sequence converges", "a continuous function on a compact set is uniformly continuous",
    "every finite integral domain is a field", "the sum of the first n odd numbers is n^2",
    "a tree with n vertices has n-1 edges", "no polynomial takes only prime values",
    "the halting problem is undecidable", "every planar graph is 5-colourable",
    "$\\sum_{n=1}^\\infty 1/n^2$ converges", "$x^n + y^n$ is divisible by $x+y$ for odd $n$",
)  # fmt: skip
_SYSTEMS_EN = (
    "a lock-free stack", "a Raft consensus module", "a distributed rate limiter", "a B+ tree with concurrent inserts",
    "a persistent red-black tree", "a CRDT text editor", "a work-stealing scheduler", "a Byzantine fault-tolerant ledger",
    "a garbage collector for a small language", "a query optimizer for joins", "a multi-region payment service",
    "a wait-free single-producer ring buffer",
)  # fmt: skip

SLOTS: dict[str, dict[str, tuple[str, ...]]] = {
    "claim": {
        "en": _CLAIMS_EN,
        "de": ("die Wurzel aus 2 irrational ist", "es unendlich viele Primzahlen gibt", "jede beschränkte monotone Folge konvergiert"),
        "fr": ("la racine carrée de 2 est irrationnelle", "il existe une infinité de nombres premiers", "toute suite croissante majorée converge"),
        "es": ("la raíz de 2 es irracional", "hay infinitos números primos", "toda sucesión monótona acotada converge"),
        "pt": ("a raiz de 2 é irracional", "há infinitos números primos", "toda sequência monótona limitada converge"),
        "zh": ("根号2是无理数", "存在无穷多个素数", "有界单调数列必收敛"),
        "ja": ("2の平方根は無理数である", "素数は無限に存在する", "有界な単調数列は収束する"),
        "hi": ("2 का वर्गमूल अपरिमेय है", "अभाज्य संख्याएँ अनंत हैं"),
        "ar": ("جذر 2 عدد غير نسبي", "الأعداد الأولية لا نهائية"),
    },
    "system": {
        "en": _SYSTEMS_EN,
        "de": ("eine sperrfreie Warteschlange", "ein verteiltes Konsensprotokoll"),
        "fr": ("une file d'attente sans verrou", "un protocole de consensus distribué"),
        "es": ("una cola sin bloqueos", "un protocolo de consenso distribuido"),
        "pt": ("uma fila sem bloqueios", "um protocolo de consenso distribuído"),
        "zh": ("无锁队列", "分布式共识协议", "可扩展的支付系统"),
        "ja": ("ロックフリーキュー", "分散合意プロトコル"),
        "hi": ("वितरित सहमति प्रोटोकॉल", "लॉक-फ्री कतार"),
        "ar": ("بروتوكول إجماع موزع", "طابور بدون أقفال"),
    },
    "code": {"en": ("C++", "Rust", "Go", "Java")},
    "country": {"en": ("Italy", "Japan", "Kenya", "Peru"), "zh": ("意大利", "日本"), "ja": ("イタリア", "フランス"),
                "hi": ("जापान", "इटली"), "ar": ("إيطاليا", "اليابان")},
    "phrase": {"en": ("good evening", "see you tomorrow", "I like apples", "where is the station")},
    "language": {"en": ("French", "German", "Italian", "Japanese")},
    "digit": {"en": ("2", "5", "7", "12")},
    "word": {"en": ("happy", "receive", "quick", "garden")},
    "book": {"en": ("Hamlet", "Don Quixote", "Faust", "War and Peace")},
    "things": {"en": ("fruits", "rivers", "cats", "flowers"), "de": ("Früchte", "Flüsse"), "fr": ("fruits", "fleurs"),
               "es": ("frutas", "flores"), "pt": ("frutas", "flores"), "zh": ("春天", "大海"), "ja": ("春", "海"),
               "hi": ("बारिश", "फूल"), "ar": ("البحر", "الزهور")},
    "topic": {"en": ("photosynthesis", "compound interest", "electric cars", "the water cycle"), "zh": ("光合作用", "通货膨胀"),
              "ja": ("光合成", "インフレ"), "hi": ("प्रकाश संश्लेषण",), "ar": ("التضخم",)},
}  # fmt: skip


def _fill(template: str, language: str) -> list[str]:
    names = [name for name in SLOTS if "{" + name + "}" in template]
    choices = [SLOTS[name].get(language, SLOTS[name]["en"]) for name in names]
    return [template.format(**dict(zip(names, chosen, strict=True))) for chosen in product(*choices)]


def write_prompts(seed: int, per_template: int = 4) -> list[Example]:
    """Fill every template with at most `per_template` seeded choices of its slots."""
    rng = random.Random(seed)  # noqa: S311  # choices of example words, not secrets
    examples = []
    for level, templates in (("easy", EASY), ("middle", MIDDLE), ("hard", HARD)):
        weak, strong, win = LEVELS[level]
        for language, texts in templates.items():
            for number, text in enumerate(texts):
                filled = _fill(text, language)
                examples += [
                    Example(prompt, f"{SOURCE}/{number % FOLDS}", SOURCE, weak, strong, win)
                    for prompt in rng.sample(filled, min(per_template, len(filled)))
                ]
    return examples
