-- At least one row in every table of the last release.
insert into tenant (id, name) values ('shop', 'Shop');
insert into api_token (id, tenant, name, source, hash)
values ('00000000-0000-0000-0000-000000000001', 'shop', 'crm', 'urn:crm', '\x01');
insert into connection (id, tenant, system, account, settings, sealed, key_id)
values ('00000000-0000-0000-0000-0000000000c1', 'shop', 'metakocka', 'default', '{"currency": "EUR"}', '\x02', 'first');
insert into event_pin (tenant, source, event_id, version) values ('shop', 'urn:crm', 'pinned', '01700000000000000000');
insert into source_scheme (tenant, source, scheme) values ('shop', 'urn:crm', 'revision');
insert into outbox (tenant, exchange, routing_key, body) values ('shop', '', 'kurir.metakocka-sync', '{}');

insert into link (tenant, kind, source_system, source_account, source_id, target_system, connection_id, worker, target_id, state, desired_k,
    applied_k, base, claim)
values ('shop', 'contact', 'crm', 'main', '1', 'metakocka', '00000000-0000-0000-0000-0000000000c1', 'metakocka-sync', '1600', 'linked',
    convert_to('000000000000000000010e1', 'utf8') || '\x0000000000', convert_to('000000000000000000010e1', 'utf8') || '\x0000000000',
    '{"name": {"sent": "Ana"}}', ('gone', 'urn:crm', 0, null, '00000000-0000-0000-0000-00000000000a'));
insert into link (tenant, kind, source_system, source_account, source_id, target_system, connection_id, worker, state, conflict_cause, last_error)
values ('shop', 'contact', 'crm', 'main', '2', 'metakocka', '00000000-0000-0000-0000-0000000000c1', 'metakocka-sync', 'conflict', 'orphan', 'two of them');
insert into effect (id, link_id, tenant, source, event_id, generation, operation, state, last, request, target_id, sent_at, settle_at,
    resolved_at)
select '00000000-0000-0000-0000-0000000000e1', id, 'shop', 'urn:crm', 'e1', 0, 'create', 'confirmed', true, '{"fields": {"name": "Ana"}}',
    '1600', now(), now(), now() from link where source_id = '1';
insert into link_event (link_id, k, source, event_id, generation, body, properties, headers)
select id, convert_to('000000000000000000000e0', 'utf8') || '\x0000000000', 'urn:crm', 'e0', 0, '{}', '{}', '{}' from link where source_id = '2';
insert into natural_key_claim (tenant, connection_id, kind, natural_key, link_id)
select tenant, connection_id, kind, 'email:ana@example.com', id from link where source_id = '1';
insert into unsettled_claim (token, tenant, link_id, source, event_id, generation)
select '00000000-0000-0000-0000-00000000000b', tenant, id, 'urn:crm', 'gone', 0 from link where source_id = '1';
insert into link_history (link_id, tenant, at, what, source, event_id, generation, target_id)
select id, tenant, now(), 'created', 'urn:crm', 'e1', 0, '1600' from link where source_id = '1';

insert into held (worker, tenant, target_system, connection_id, reason, detail, link_id, source, event_id, type, subject, body,
    properties, headers)
select 'metakocka-sync', tenant, target_system, connection_id, 'poison', 'three processes ended', id, 'urn:crm', 'held', 'crm.contact.updated.v1',
    'contact/2', '{}', '{}', '{}' from link where source_id = '2';
insert into dead_letter (id, worker, tenant, connection_id, source, event_id, type, subject, link_id, state, generation, class, fingerprint,
    body, properties, headers, first_at, last_at, resolved_by, resolved_at, held_for)
select '00000000-0000-0000-0000-0000000000d1', 'metakocka-sync', tenant, connection_id, 'urn:crm', 'held', 'crm.contact.updated.v1', 'contact/2',
    id, 'resolved', 1, 'refused', 'refused:no', '{}', '{}', '{}', now(), now(), 'kurir', now(), 'poison' from link where source_id = '2';
insert into dead_letter_history (dead_id, generation, kind, at) values ('00000000-0000-0000-0000-0000000000d1', 0, 'death', now());
insert into janitor_request (link_id, what, due, asked_at) select id, 'recheck', now(), now() from link where source_id = '1';
insert into replay (id, tenant, requested_by, selection, state, rate_max, paced_at, window_at, next_at, created_at)
values ('00000000-0000-0000-0000-0000000000f1', 'shop', 'ana', '{}', 'running', 50, now(), now(), now(), now());
insert into replay_item (replay_id, dead_id, place, worker, generation, state, held_for, at)
values ('00000000-0000-0000-0000-0000000000f1', '00000000-0000-0000-0000-0000000000d1', 1, 'metakocka-sync', 1, 'held', 'poison', now());

insert into budget (connection_id, tenant) values ('00000000-0000-0000-0000-0000000000c1', 'shop');
insert into budget_holder (connection_id, holder, slots, slots_wanted, searches, searches_wanted, since, until)
values ('00000000-0000-0000-0000-0000000000c1', '00000000-0000-0000-0000-0000000000aa', 1, 1, 0, 0, now(), now());
insert into circuit (connection_id, operation, open_until, open_ms, reason)
values ('00000000-0000-0000-0000-0000000000c1', 'search', now(), 1000, 'time-outs');
insert into notification (tenant, kind, connection_id, epoch, at, text)
values ('shop', 'connection_suspended', '00000000-0000-0000-0000-0000000000c1', 1, now(), 'suspended');
insert into audit (actor, what, tenant, at) values ('ana', 'connection.add', 'shop', now());
