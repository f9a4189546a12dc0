package engine

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/apache/yunikorn-core/pkg/common"
	"github.com/apache/yunikorn-core/pkg/common/security"
	"github.com/go-ldap/ldap/v3"
)

// directory answers as an LDAP server.
type directory struct {
	groups []string
	away   bool
}

func (d directory) ReadLdapConfig() (*security.LdapConfig, error) {
	return &security.LdapConfig{Host: "ldap", Port: 389, Filter: "(uid=%s)"}, nil
}

func (d directory) DialURL(string, ...ldap.DialOpt) (*ldap.Conn, error) {
	if d.away {
		return nil, errors.New("away")
	}
	return nil, nil
}

func (d directory) Bind(*ldap.Conn, string, string) error { return nil }

func (d directory) Search(*ldap.Conn, *ldap.SearchRequest) (*ldap.SearchResult, error) {
	return &ldap.SearchResult{Entries: []*ldap.Entry{ldap.NewEntry("uid=ann", map[string][]string{"memberOf": d.groups})}}, nil
}

func (d directory) Close(*ldap.Conn) {}

// TestGroupsOfAnyDirectoryAreRead: the core alone panics over those of OpenLDAP, and each lead would end in turn.
func TestGroupsOfAnyDirectoryAreRead(t *testing.T) {
	for _, c := range []struct {
		name   string
		groups []string
		want   []string
	}{
		{"Active Directory", []string{"CN=dev,OU=groups,DC=example", "CN=ops,DC=example"}, []string{"ann", "dev", "ops"}},
		{"OpenLDAP", []string{"cn=dev,ou=groups,dc=example"}, []string{"ann", "dev"}},
		{"no common name", []string{"ou=dev,dc=example", "CN=ops"}, []string{"ann", "ops"}},
		{"no name at all", []string{"", "dev", "CN="}, []string{"ann"}},
		{"what the core would cut into another group", []string{`CN=ops\,not really,DC=example`, "CN=aCN=b"}, []string{"ann"}},
		{"none", nil, []string{"ann"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cache := security.GetUserGroupCacheLdap(directory{}, guardedLDAP{directory{groups: c.groups}})
			got, err := cache.GetUserGroup("ann")
			if err != nil || !slices.Equal(got.Groups, c.want) {
				t.Errorf("groups %q, %v, want %q", got.Groups, err, c.want)
			}
		})
	}
	if _, err := security.GetUserGroupCacheLdap(directory{}, guardedLDAP{directory{away: true}}).GetUserGroup("ann"); err == nil {
		t.Error("groups without a directory")
	}
}

// TestLDAPWithoutItsSettingsIsRefused: the core would end the process, and all replicas one after the other.
func TestLDAPWithoutItsSettingsIsRefused(t *testing.T) {
	if _, err := os.Stat(common.LdapMountPath); err == nil {
		t.Skip("this machine has settings for LDAP")
	}
	with := func(resolver string) map[string]string {
		return map[string]string{"queues.yaml": "partitions:\n  - name: default\n    usergroupresolver: {type: " + resolver + "}\n    queues: [{name: root, submitacl: '*'}]\n"}
	}
	if err := Validate(with(security.Ldap)); err == nil || !strings.Contains(err.Error(), common.LdapMountPath) {
		t.Errorf("ldap: %v", err)
	}
	if err := Validate(with(security.Os)); err != nil {
		t.Errorf("os: %v", err)
	}
}

// Directory answers as an LDAP server with these groups for everybody.
func Directory(groups ...string) (security.ConfigReader, security.LdapAccess) {
	return directory{}, directory{groups: groups}
}
