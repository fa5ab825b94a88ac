package iam

import (
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Context is what conditions are judged by: the condition keys of a request ("AWS
// global condition context keys" and "IAM and AWS STS condition context keys", IAM
// User Guide). A request does not have the keys whose fields are zero. Keys marked with
// * are those that every request to AWS has: if such a field is zero, conditions on its
// key cannot be judged.
type Context struct {
	Principal       Principal  // aws:PrincipalArn* (the role's for a session), aws:PrincipalAccount*, aws:username (of users)
	UserID          string     // aws:userid*
	SourceIP        netip.Addr // aws:SourceIp*
	CurrentTime     time.Time  // aws:CurrentTime*, aws:EpochTime*
	SecureTransport bool       // aws:SecureTransport, which every request has
	RequestedRegion string     // aws:RequestedRegion*
	UserAgent       string     // aws:UserAgent

	// Of sessions.
	TokenIssueTime    time.Time         // aws:TokenIssueTime*
	SourceIdentity    string            // aws:SourceIdentity
	FederatedProvider string            // aws:FederatedProvider: ARN of the web identity's issuer
	PrincipalTags     map[string]string // aws:PrincipalTag/KEY

	// Of requests for a session.
	ExternalID              string              // sts:ExternalId
	RoleSessionName         string              // sts:RoleSessionName
	RequestedSourceIdentity string              // sts:SourceIdentity
	RequestTags             map[string]string   // aws:RequestTag/KEY, aws:TagKeys
	Claims                  map[string][]string // HOST:CLAIM, of the web identity that FederatedProvider issued; names have their case
}

func (c *Context) username() string {
	if c.Principal.Kind == User {
		return c.Principal.Name
	}
	return ""
}

// host returns the name by which condition keys name the issuer of web identities with
// the given ARN: the issuer's URL without https://. It is empty if the text is no such
// ARN.
func host(providerARN string) string {
	_, host, _ := strings.Cut(providerARN, ":oidc-provider/")
	return host
}

// value is one of the values that a request has for a condition key: its text, and
// the time or address that the text stands for if the key has values of that type.
type value struct {
	text    string
	instant time.Time
	address netip.Addr
	unknown bool // the request has the key, but its value is not known
}

func textValue(text string) value { return value{text: text} }

func timeValue(t time.Time) value {
	if t.IsZero() {
		return value{}
	}
	t = t.UTC().Truncate(time.Second)
	return value{text: t.Format(time.RFC3339), instant: t}
}

// keys are readers of the condition keys that have one value. The value's text is empty
// if the request does not have the key.
var keys = map[string]func(*Context) value{
	"aws:currenttime":       func(c *Context) value { return always(timeValue(c.CurrentTime)) },
	"aws:epochtime":         epochTime,
	"aws:federatedprovider": func(c *Context) value { return textValue(c.FederatedProvider) },
	"aws:principalaccount":  func(c *Context) value { return always(textValue(c.Principal.AccountID)) },
	"aws:principalarn":      principalARN,
	"aws:requestedregion":   func(c *Context) value { return always(textValue(c.RequestedRegion)) },
	"aws:securetransport":   func(c *Context) value { return textValue(strconv.FormatBool(c.SecureTransport)) },
	"aws:sourceidentity":    func(c *Context) value { return textValue(c.SourceIdentity) },
	"aws:sourceip":          sourceIP,
	"aws:tokenissuetime":    tokenIssueTime,
	"aws:useragent":         func(c *Context) value { return textValue(c.UserAgent) },
	"aws:userid":            func(c *Context) value { return always(textValue(c.UserID)) },
	"aws:username":          func(c *Context) value { return textValue(c.username()) },
	"sts:externalid":        func(c *Context) value { return textValue(c.ExternalID) },
	"sts:rolesessionname":   func(c *Context) value { return textValue(c.RoleSessionName) },
	"sts:sourceidentity":    func(c *Context) value { return textValue(c.RequestedSourceIdentity) },
}

// always returns the value of a key that every request has: unknown if its text is empty.
func always(v value) value {
	v.unknown = v.text == ""
	return v
}

func epochTime(c *Context) value {
	v := always(timeValue(c.CurrentTime))
	if !v.unknown {
		v.text = strconv.FormatInt(v.instant.Unix(), 10)
	}
	return v
}

func principalARN(c *Context) value {
	if c.Principal.AccountID == "" {
		return always(value{})
	}
	return textValue(c.Principal.withoutSession().ARN())
}

func sourceIP(c *Context) value {
	address := c.SourceIP.Unmap().WithZone("")
	if !address.IsValid() {
		return always(value{})
	}
	return value{text: address.String(), address: address}
}

func tokenIssueTime(c *Context) value {
	v := timeValue(c.TokenIssueTime)
	if c.Principal.SessionName != "" {
		v = always(v)
	}
	return v
}

// reader appends the values that a request has for a condition key.
type reader func(c *Context, to []value) []value

// keyReader returns the reader of a condition key, or nil if this service does not
// know the key. Keys compare without regard to case, except for the names of issuers
// and their claims. Claims are known only of the issuers with the given hosts.
func keyReader(key string, hosts []string) reader {
	name := lower(key)
	if read := keys[name]; read != nil {
		return func(c *Context, to []value) []value {
			if v := read(c); v.text != "" || v.unknown {
				to = append(to, v)
			}
			return to
		}
	}
	if name == "aws:tagkeys" {
		return func(c *Context, to []value) []value {
			for tag := range c.RequestTags {
				to = append(to, textValue(tag))
			}
			return to
		}
	}
	if tag, is := strings.CutPrefix(name, "aws:principaltag/"); is && tag != "" {
		return func(c *Context, to []value) []value { return tagged(to, c.PrincipalTags, tag) }
	}
	if tag, is := strings.CutPrefix(name, "aws:requesttag/"); is && tag != "" {
		return func(c *Context, to []value) []value { return tagged(to, c.RequestTags, tag) }
	}
	for _, of := range hosts {
		if claim, is := strings.CutPrefix(key, of+":"); is && claim != "" {
			return func(c *Context, to []value) []value {
				if host(c.FederatedProvider) == of {
					for _, v := range c.Claims[claim] {
						to = append(to, textValue(v))
					}
				}
				return to
			}
		}
	}
	return nil
}

// tagged appends the value of the tag with the name, given in lower case.
func tagged(to []value, tags map[string]string, name string) []value {
	for tag, v := range tags {
		if lower(tag) == name {
			to = append(to, textValue(v))
		}
	}
	return to
}
