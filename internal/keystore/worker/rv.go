package worker

import (
	"errors"
	"fmt"
	"strings"

	"github.com/miekg/pkcs11"

	"gardu/internal/keystore/protocol"
)

// reasons sorts the answers of a module by what can be done about them. What is
// not here, vendor codes included, counts as the device's: exact codes differ
// between tokens and their versions.
var reasons = map[pkcs11.Error]protocol.Reason{
	pkcs11.CKR_SESSION_CLOSED:            protocol.ReasonSession,
	pkcs11.CKR_SESSION_HANDLE_INVALID:    protocol.ReasonSession,
	pkcs11.CKR_SESSION_COUNT:             protocol.ReasonSession,
	pkcs11.CKR_OBJECT_HANDLE_INVALID:     protocol.ReasonSession,
	pkcs11.CKR_KEY_HANDLE_INVALID:        protocol.ReasonSession,
	pkcs11.CKR_USER_NOT_LOGGED_IN:        protocol.ReasonSession,
	pkcs11.CKR_OPERATION_ACTIVE:          protocol.ReasonSession,
	pkcs11.CKR_OPERATION_NOT_INITIALIZED: protocol.ReasonSession,
	pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED:  protocol.ReasonSession,

	pkcs11.CKR_ENCRYPTED_DATA_INVALID:   protocol.ReasonData,
	pkcs11.CKR_ENCRYPTED_DATA_LEN_RANGE: protocol.ReasonData,
	pkcs11.CKR_DATA_INVALID:             protocol.ReasonData,
	pkcs11.CKR_DATA_LEN_RANGE:           protocol.ReasonData,

	pkcs11.CKR_MECHANISM_INVALID:       protocol.ReasonUnsupported,
	pkcs11.CKR_MECHANISM_PARAM_INVALID: protocol.ReasonUnsupported,
	pkcs11.CKR_FUNCTION_NOT_SUPPORTED:  protocol.ReasonUnsupported,
	pkcs11.CKR_KEY_SIZE_RANGE:          protocol.ReasonUnsupported,
	pkcs11.CKR_ARGUMENTS_BAD:           protocol.ReasonUnsupported,
	pkcs11.CKR_CANT_LOCK:               protocol.ReasonUnsupported,
	// The module's own length was used; NSS says this to AES-GCM.
	pkcs11.CKR_BUFFER_TOO_SMALL: protocol.ReasonUnsupported,

	pkcs11.CKR_KEY_TYPE_INCONSISTENT:      protocol.ReasonConfiguration,
	pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED: protocol.ReasonConfiguration,
	pkcs11.CKR_ATTRIBUTE_READ_ONLY:        protocol.ReasonConfiguration,
	pkcs11.CKR_ATTRIBUTE_TYPE_INVALID:     protocol.ReasonConfiguration,
	pkcs11.CKR_ATTRIBUTE_VALUE_INVALID:    protocol.ReasonConfiguration,
	pkcs11.CKR_TEMPLATE_INCOMPLETE:        protocol.ReasonConfiguration,
	pkcs11.CKR_TEMPLATE_INCONSISTENT:      protocol.ReasonConfiguration,
	pkcs11.CKR_TOKEN_WRITE_PROTECTED:      protocol.ReasonConfiguration,
	pkcs11.CKR_SESSION_READ_ONLY:          protocol.ReasonConfiguration,

	pkcs11.CKR_PIN_INCORRECT: protocol.ReasonPINWrong,
	// No token was seen to say these to a PIN of a length it had announced; they
	// count as wrong because another try could only cost.
	pkcs11.CKR_PIN_INVALID:              protocol.ReasonPINWrong,
	pkcs11.CKR_PIN_LEN_RANGE:            protocol.ReasonPINWrong,
	pkcs11.CKR_PIN_LOCKED:               protocol.ReasonPINLocked,
	pkcs11.CKR_PIN_EXPIRED:              protocol.ReasonPINUnusable,
	pkcs11.CKR_USER_PIN_NOT_INITIALIZED: protocol.ReasonPINUnusable,
}

func fail(r protocol.Reason, format string, args ...any) *protocol.Failure {
	return &protocol.Failure{Reason: r, Detail: fmt.Sprintf(format, args...)}
}

// failed turns an answer of the module into a Failure that names the call.
func failed(call string, err error) error {
	if err == nil {
		return nil
	}
	rv, ok := errors.AsType[pkcs11.Error](err)
	if !ok {
		return fail(protocol.ReasonDevice, "%s: %v", call, err)
	}
	r, ok := reasons[rv]
	if !ok {
		r = protocol.ReasonDevice
	}
	return &protocol.Failure{Reason: r, Code: uint64(rv), Detail: call + " answered " + rvName(rv)}
}

// rvName is the constant's name, or the number of a code that has none.
func rvName(rv pkcs11.Error) string {
	if _, name, ok := strings.Cut(rv.Error(), "CKR_"); ok {
		return "CKR_" + name
	}
	return fmt.Sprintf("0x%X", uint(rv))
}

// because returns the reason of an error of this package.
func because(err error) protocol.Reason {
	if f, ok := errors.AsType[*protocol.Failure](err); ok {
		return f.Reason
	}
	return 0
}

// mayPass says whether a new session may mend what failed.
func mayPass(err error) bool {
	r := because(err)
	return r == protocol.ReasonSession || r == protocol.ReasonDevice
}
