"""Words beside which a number or a capitalised word becomes personal, in the languages we know such words of.

Owns the vocabulary only. Each list is an alternation of a regular expression without case, each a set of triggers too.
"""

from typing import Final

PHONE: Final = (
    "phone telephone tel mobile cell cellphone fax call calls calling dial text sms whatsapp signal desk hotline "
    "landline reach ring answering registered telefon telefonnummer handy handynummer mobil mobilnummer rückruf "
    "téléphone portable appelez joindre teléfono telefono móvil celular llámame cellulare telefoon bel puhelin numéro "
    "número телефон тел звоните मोबाइल फोन هاتف جوال"
)
"""Words before a phone number."""

PHONE_AFTER: Final = "office fax mobile cell home work phone telefon handy"
"""Words right after a phone number, as in signatures."""

IDENTIFIED: Final = (
    "passport reisepass pasaporte passeport passaporto licence license führerschein permis patente account acct konto "
    "kontonummer cuenta compte conto policy member membership patient mrn record insurance versichertennummer employee "
    "student visa taxpayer tin itin ein ssn sin nino nhs sort routing aba bsn burgerservicenummer nif nie dni cpf pan "
    "aadhaar aadhar security identity ausweis personalausweis ausweisnummer steuernummer steuer-id vat social "
    "medicare tfn pps vin"
)
"""Words that a number identifies someone under, when "number", "no." or the like stands between."""

NATIONAL: Final = (
    "ssn sin nino nhs bsn burgerservicenummer nif dni nie cpf aadhaar aadhar pesel cnp tfn social security national "
    "identity steuer-id steueridentifikationsnummer personnummer medicare ssnr sofi tax itin cuit rut rrn nir itin aba "
    "routing"
)
"""Words near which nine or ten digits whose check holds are a national number."""

BIRTH: Final = (
    "born date birth birthdate birthday birthdate dob geboren geburtsdatum geburtstag geb né née naissance nacimiento "
    "nacido nacida nascita"
)

TITLES: Final = (
    "mr mrs ms miss mx dr prof sir madam herr frau mme mlle monsieur madame señor señora sr sra sig dhr mevr"
)

STREETS: Final = (
    "street st avenue ave av road rd boulevard blvd lane ln drive dr court ct place pl square sq terrace parkway pkwy "
    "highway hwy circle cir way close crescent row mews grove gardens trail alley loop plaza"
)
"""English words after a street's name."""

STREETS_BEFORE: Final = (
    "rue avenue av boulevard bd place quai chemin impasse allée allee via viale piazza corso vicolo strada largo calle "
    "avenida avda paseo plaza carrer carretera camino rua travessa praça praca alameda estrada ulica ul aleja "
    "улица ул проспект пр-т str strasse straße prolongación calzada jalan"
)
"""Words before a street's name elsewhere, where they begin with a capital."""

STREETS_BEFORE_SMALL: Final = (
    "rue chemin impasse viale piazza calle avenida rua travessa ulica ul улица ул проспект пр-т jalan"
)
"""Those that are no ordinary word of English, so that they count in small letters too."""

STREET_ENDINGS: Final = (
    "straße strasse str. gasse weg allee platz damm straat laan plein gracht kade dijk steeg gade gaden vej vejen allé "
    "vägen vagen väg gatan gränd gränden stigen veien vegen gata katu tie polku kuja utca stræti straeti vegur cesta "
    "puiestee iela gatvė"
)
"""Ends of words that are a street's whole name."""

NO_STREETS: Final = "brigade renegade"
"""Words that end like a street and are none."""

STATES: Final = (
    "AL AK AZ AR CA CO CT DE DC FL GA HI ID IL IN IA KS KY LA ME MD MA MI MN MS MO MT NE NV NH NJ NM NY NC ND OH OK OR "
    "PA RI SC SD TN TX UT VT VA WA WV WI WY PR GU VI AE AP AA"
)
"""What the United States Postal Service calls its states, territories and armed forces."""

OF_STREETS: Final = "de la le les du des der den del della di do da dos das el los las von van l' d' św"
"""Small words inside a street's name."""

NO_NAMES: Final = (
    "not the a an on in wrong spelled spelt incorrect being and used or also so still misspelled too now what is just "
    "already only actually really"
)
"""What follows "my name is" without being a name."""

NO_ADDRESSEES: Final = (
    "Sir Madam All Team Customer Diary Hiring Editor Reader Readers Friend Friends Colleague Dr Mr Mrs Ms"
)
"""Whom letters address without a name."""
