package engine

import (
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/apache/yunikorn-core/pkg/common"
	"github.com/apache/yunikorn-core/pkg/common/configs"
	"github.com/apache/yunikorn-core/pkg/common/security"
	"github.com/go-ldap/ldap/v3"
)

// rehearseResolver refuses a resolver of groups with which the core would end the process as it starts: every replica
// would end, each time.
func rehearseResolver(r configs.UserGroupResolver) error {
	if r.Type != security.Ldap {
		return nil
	}
	_, err := os.Stat(common.LdapMountPath)
	if err == nil {
		_, err = security.GetConfigReader().ReadLdapConfig()
	}
	if err != nil {
		return fmt.Errorf("usergroupresolver ldap: %w: this replica has to find a file for each setting of LDAP in %s", err, common.LdapMountPath)
	}
	return nil
}

// resolveBy has the core look groups up by LDAP through guardedLDAP: it takes what was made for it before it starts.
func resolveBy(conf *configs.SchedulerConfig, settings security.ConfigReader, access security.LdapAccess) {
	for _, p := range conf.Partitions {
		if p.Name == configs.DefaultPartition && p.UserGroupResolver.Type == security.Ldap {
			security.GetUserGroupCache(p.UserGroupResolver, settings, guardedLDAP{access})
		}
	}
}

// ldapPatience bounds one connection and one answer. The core does nothing else meanwhile.
const ldapPatience = 5 * time.Second

// guardedLDAP has the core read only what it can: it panics over a group whose name is not CN, in capitals.
type guardedLDAP struct{ security.LdapAccess }

// DialURL connects.
func (g guardedLDAP) DialURL(url string, options ...ldap.DialOpt) (*ldap.Conn, error) {
	// The dialer comes first: the core's option for TLS adds to it.
	options = append([]ldap.DialOpt{ldap.DialWithDialer(&net.Dialer{Timeout: ldapPatience})}, options...)
	conn, err := g.LdapAccess.DialURL(url, options...)
	if conn != nil {
		conn.SetTimeout(ldapPatience)
	}
	return conn, err
}

// Search searches, and has groups of an answer called as the core reads them.
func (g guardedLDAP) Search(conn *ldap.Conn, request *ldap.SearchRequest) (*ldap.SearchResult, error) {
	result, err := g.LdapAccess.Search(conn, request)
	if err != nil {
		return nil, err
	}
	for _, entry := range result.Entries {
		for _, attribute := range entry.Attributes {
			if attribute.Name == memberOf {
				attribute.Values = groupsOf(attribute.Values)
			}
		}
	}
	return result, nil
}

// memberOf is what the core reads of an answer, whatever is configured.
const memberOf = "memberOf"

// groupsOf are the groups of distinguished names that have a common name. One that the core would cut into the name
// of another group is left out.
func groupsOf(names []string) (groups []string) {
	for _, name := range names {
		dn, err := ldap.ParseDN(name)
		if err != nil || len(dn.RDNs) == 0 || len(dn.RDNs[0].Attributes) == 0 {
			continue
		}
		first := dn.RDNs[0].Attributes[0]
		if strings.EqualFold(first.Type, "cn") && first.Value != "" && !strings.Contains(first.Value, ",") && !strings.Contains(first.Value, "CN=") {
			groups = append(groups, "CN="+first.Value)
		}
	}
	return groups
}
