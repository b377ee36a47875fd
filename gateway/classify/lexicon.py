"""Words that tell what a prompt asks for, by topic, in the languages the synthetic training prompts cover.

Owns the vocabulary only. A word counts once per prompt, so that repeating it does not buy a higher score. Adding or
moving a word changes what a feature means: raise `FEATURE_VERSION` in `features.py` and retrain.
"""

# ruff: noqa: E501, RUF001  # one script a line, and letters that look alike are words of other languages

TOPICS: dict[str, str] = {
    "proof": """prove proof proofs proving disprove theorem theorems lemma corollary conjecture induction contradiction
        rigorous rigorously formally qed axiom axioms linearizability infinitely necessary sufficient irrational
        beweise beweisen beweis zeige satz unendlich irrational induktion démontrer démontre démontrez prouver prouve prouvez preuve
        démonstration théorème demuestra demostrar demuestre demostración teorema prueba prove provar demonstre
        demonstrar demonstração prova dimostra dimostrare докажи докажите доказать доказательство теорема
        सिद्ध प्रमाण प्रमेय सिद्ध साबित أثبت اثبت برهن برهان إثبات مبرهنة""",
    "derive": """derive derivation solve evaluate compute calculate determine simplify integrate differentiate find
        estimate minimize maximize optimal expected berechne berechnen löse bestimme calcule calculer calculez résous
        déterminer calcula calcular resuelve determina resolva determine вычисли решите решить найдите
        गणना हल احسب حل أوجد""",
    "implement": """implement implementation function program algorithm code class method script api compiler debug
        refactor unit test tests parser library database sql query python java javascript typescript rust golang c++
        cpp haskell kernel string array list integer returns return def import lambda implementiere implementieren
        programmiere funktion programm algorithmus implémente implémentez implémenter algorithme fonction programme
        implementa implementar implemente función programa algoritmo função código реализуй реализуйте напиши
        программу функцию алгоритм लागू प्रोग्राम फ़ंक्शन एल्गोरिदम कोड نفذ برنامج دالة خوارزمية""",
    "systems": """concurrent concurrency distributed consensus lock-free lock mutex thread threads atomic queue cache
        scalable scalability throughput latency replication sharding partition transaction transactions consistency
        fault-tolerant byzantine raft paxos kubernetes microservices asynchronous memory scheduler protocol
        encryption complexity np-hard invariant invariants race deadlock verteilt verteiltes verteilten distribué
        distribuido distribuída distribuído nebenläufig""",
    "design": """design architect architecture plan strategy analyze analyse critique evaluate trade-offs tradeoffs
        propose develop devise optimize justify comprehensive detailed in-depth end-to-end production entwirf entwerfe
        entwerfen architektur analysiere conçois concevez concevoir analysez diseña diseñar arquitectura analiza
        projete projetar arquitetura analise спроектируй разработай डिज़ाइन विश्लेषण صمم تصميم حلل""",
    "explain": """explain describe compare contrast discuss why how difference reason reasoning step-by-step summarize
        summarise outline erkläre erklären warum vergleiche explique expliquer expliquez pourquoi comparer explica
        compara porqué explique compare объясни сравни почему समझाओ समझाइए क्यों तुलना اشرح قارن لماذا""",
    "logic": """if then not except all every none only least must cannot neither nor either exactly unless whether
        assume suppose given let such following true false statement statements conclusion argument premise valid""",
    "creative": """write story poem essay letter email blog song imagine pretend roleplay character compose draft speech
        haiku headline outline slogan schreibe gedicht geschichte écris écrivez poème histoire escribe poema cuento
        escreva poema conto сочини стихотворение कविता कहानी लिखो اكتب قصيدة قصة""",
    "smalltalk": """hi hello hey thanks thank thx bye goodbye ok okay cool great nice welcome please morning night sup
        yo lol bonjour salut merci bonsoir revoir hallo danke tschüss guten morgen hola gracias adiós buenos días
        olá oi obrigado obrigada tchau ciao grazie привет спасибо пока здравствуйте नमस्ते धन्यवाद शुक्रिया हैलो
        مرحبا شكرا أهلا السلام""",
    "factual": """who whom whose when where which what capital country city born named name president year old author
        wrote won invented discovered located tallest largest longest wer wann wo welche welcher hauptstadt heißt qui
        quand où quelle quel capitale quién cuándo dónde cuál quem quando onde qual кто когда где столица कौन कब कहाँ
        राजधानी क्या من متى أين ما عاصمة""",
    "translate": """translate translation spell synonym antonym rewrite rephrase correct grammar convert define
        meaning übersetze übersetzen buchstabiere traduis traduisez traduire traduce traducir traduza traduzir
        переведи अनुवाद ترجم translate lowercase uppercase""",
    "word_problem": """each per total many much more less than left altogether remaining times half twice dollars cents
        cost costs buys bought sells sold spend spends spent pays paid earns week weeks day days hours hour minutes
        percent price profit money apples miles age""",
    "mathematics": """integer integers prime primes polynomial matrix matrices vector function equation equations
        integral derivative converge series sequence group ring field graph vertices vertex eigenvalue triangle circle
        angle perimeter radius coordinates real complex modulo divisible divisor remainder probability random variance
        permutations permutation roots degree continuous bounded sum product nonzero finite polygon square cube
        primzahlen primzahl premiers primos nombres números números простых समाकल अभाज्य الأولية""",
    "physics": """velocity speed mass force energy momentum acceleration electron electric magnetic field charge
        current voltage resistance circuit wavelength frequency temperature pressure volume heat gas friction spring
        lens light photon nucleus orbit quantum wave kinetic potential angular steam turbine fluid pipe beam stress
        pump motor signal steel density flow diameter ft lb btu kg cm mm kj""",
    "chemistry": """reaction acid base ph molar mole moles solution equilibrium enthalpy entropy bond molecule compound
        oxidation ion ions equilibrium nmr carbon atom atoms atomic spin hydrogen sodium mol catalyst titration buffer
        constant synthesis reagent product molecular orbital spectrum""",
    "biology": """cell cells gene genes dna rna protein proteins species evolution plant plants animal population
        enzyme membrane bacteria virus disease patient tissue muscle blood heart brain symptoms treatment clinical
        hormone immune mutation organism""",
    "society": """law court contract plaintiff defendant legal government state political economy economic market
        demand supply inflation monetary fiscal tax firm firms war treaty constitution rights moral ethics philosophy
        religion century psychologist psychology behavior cognitive therapy personality social theory""",
    "business": """interest rate bond stock shares dividend investment discount loan annual payment accounting
        inventory revenue income capital cash balance account net company sales marketing manager tax insurance""",
    "format": """json table csv yaml markdown bullet format exactly words sentences paragraphs list between only
        without include at-least json-schema bulleted column columns""",
}

# Scripts written without spaces, or with particles glued on: looked for as substrings, only when such a script is there.
UNSPACED_TOPICS: dict[str, str] = {
    "proof": "证明 證明 定理 引理 归纳法 証明 帰納法 示せ 증명 정리 พิสูจน์",
    "derive": "计算 求解 推导 求出 計算 求め 解い 導出 구하 계산 คำนวณ",
    "implement": "实现 實作 代码 编写 算法 函数 程序 実装 コード アルゴリズム 関数 プログラム 구현 코드 알고리즘 เขียนโปรแกรม",
    "systems": "分布式 并发 无锁 一致性 共识 線形化 分散 ロックフリー 並行 整合性 분산 동시성",
    "design": "设计 架构 分析 設計 アーキテクチャ 설계 분석 ออกแบบ",
    "explain": "解释 为什么 比较 説明 なぜ 比較 설명 왜 อธิบาย",
    "creative": "写一首 故事 诗 物語 詩 시를 이야기",
    "smalltalk": "你好 谢谢 早上好 再见 您好 こんにちは ありがとう おはよう さようなら 안녕 감사 สวัสดี ขอบคุณ",
    "factual": "首都 谁 什么时候 哪里 多少 誰 どこ いつ 何 수도 누구 어디 เมืองหลวง",
    "translate": "翻译 翻訳 訳し 번역 แปล",
    "mathematics": "素数 质数 整数 方程 矩阵 积分 行列 積分 方程式 소수 행렬",
}

# A user turn made only of these words carries no task of its own: it is judged by the turns before it.
FOLLOW_UP_WORDS: str = """yes yeah yep yup ok okay sure please go on ahead continue keep going do it that this proceed next
    more and why how so then what now right correct good great perfect nice thanks thank you cool fine alright sounds let's
    lets start again try try elaborate further carry finish the rest same else also for me a bit step steps one two
    first second both all of them is the of course no not yet but really exactly i agree k y n hm hmm ja ja bitte weiter
    mach los gut genau warum und oui d'accord vas-y continue continuez stp s'il te plaît vous et pourquoi suite bien sûr
    sí si vale claro sigue continúa adelante por favor y qué sim continue prossiga isso e por quê pode да давай дальше
    продолжай продолжи пожалуйста ещё почему а хорошо हाँ हां जी जारी रखो रखें आगे और क्यों ठीक है कृपया करो
    نعم استمر أكمل تابع حسنا لماذا و من فضلك shorter longer simpler briefer kürzer länger einfacher"""

# A short turn that begins with one of these takes up what was said: "and in Python?", "what about negative numbers?".
CONTINUATIONS: str = "and but or also und aber oder auch et mais ou y pero и но"

UNSPACED_FOLLOW_UPS: str = """好 好的 是 是的 对 请 继续 请继续 好的继续 好的请继续 继续吧 为什么 然后呢 嗯 はい 続けて はい続けて 続けてください
    はい続けてください お願いします はいお願いします なぜ なぜですか それで 그래 네 계속 계속해줘 계속해주세요 네계속해주세요 왜 ใช่ ต่อ"""

# A short turn with one of these is about what was said before: "now make it thread-safe", "ok, implement step 2".
# Not "es" and "das": they point back in German, but stand in every other Spanish question and before German nouns.
REFERENCES: str = """it its that this these those them they step steps above previous same again instead dies
    diese schritt vorherige ça cela étape précédent précédente eso esto paso anterior isso isto passo это этот шаг
    предыдущий यह वह इसे चरण هذا هذه ذلك الخطوة"""
