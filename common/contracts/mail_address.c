/* Mail addresses: see mail_address.h. */
#include "common/contracts/mail_address.h"

#include "common/base/memory.h"

#include <ctype.h>
#include <idn2.h>
#include <string.h>

#define LOCAL_LIMIT 64

/* Two labels or more of letters, digits and inner hyphens. */
static bool mail_address_is_domain(const char *text)
{
        size_t labels = 0;

        for (;; text++) {
                const char *label = text;

                while (isalnum((unsigned char)*text) || *text == '-')
                        text++;
                if (text == label || text - label > 63 || *label == '-' || text[-1] == '-')
                        return false;
                labels++;
                if (*text != '.')
                        return *text == '\0' && labels >= 2;
        }
}

static bool mail_address_is_ascii(const char *text, size_t length)
{
        for (size_t i = 0; i < length; i++)
                if ((unsigned char)text[i] >= 0x80)
                        return false;
        return true;
}

/* The domain in ASCII; NULL if it is not a domain. The caller frees. */
static char *mail_address_read_domain(const char *text)
{
        char *ascii = NULL, *domain = NULL;

        if (mail_address_is_ascii(text, strlen(text)))
                return mail_address_is_domain(text) ? mem_copy_text(text) : NULL;
        if (idn2_lookup_u8((const uint8_t *)text, (uint8_t **)&ascii, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL) != IDN2_OK)
                return NULL;
        if (mail_address_is_domain(ascii))
                domain = mem_copy_text(ascii);
        idn2_free(ascii);
        return domain;
}

static bool mail_address_is_local(const char *text, size_t length)
{
        bool good = length >= 1 && length <= LOCAL_LIMIT && text[0] != '.' && text[length - 1] != '.';

        for (size_t i = 0; good && i < length; i++)
                good = isalnum((unsigned char)text[i]) || (text[i] == '.' && text[i + 1] != '.') ||
                       strchr("!#$%&'*+/=?^_`{|}~-", text[i]) != NULL;
        return good;
}

int mail_address_read(const char *field, const char *text, char **ret, struct err *err)
{
        const char *at = strchrnul(text, '@');
        size_t local = (size_t)(at - text);
        auto_free char *domain = *at == '@' ? mail_address_read_domain(at + 1) : NULL, *address = NULL;

        if (domain != NULL &&
            !mail_address_is_ascii(text, local)) /* the domain has an ASCII form, the local part has none */
                return err_field(err, field,
                                 "%s has non-ASCII letters before the @, to which many mail servers cannot deliver",
                                 field);
        if (domain == NULL || !mail_address_is_local(text, local))
                return err_field(err, field, "%s is not a mail address", field);
        address = mem_printf("%.*s@%s", (int)local, text, domain);
        if (strlen(address) > MAIL_ADDRESS_LIMIT)
                return err_field(err, field, "%s is not a mail address: it is too long", field);
        for (char *p = address; *p; p++)
                *p = (char)tolower((unsigned char)*p);
        *ret = TAKE_PTR(address);
        return 0;
}
