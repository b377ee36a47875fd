"""What personal data may be called: a closed set, all that is ever told of what was found."""

from enum import StrEnum


class PersonalKind(StrEnum):
    """Why a request stays on local models. `unread`: it holds what no pattern reads, so it is taken as personal."""

    ACCOUNT = "account"
    ADDRESS = "address"
    CARD = "card"
    CREDENTIALS = "credentials"
    DATE_OF_BIRTH = "date_of_birth"
    EMAIL = "email"
    IBAN = "iban"
    IP = "ip"
    NAME = "name"
    NATIONAL_ID = "national_id"
    PHONE = "phone"
    UNREAD = "unread"
