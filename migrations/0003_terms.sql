-- Names of ours give way to those that the field uses.
alter table circuit rename column canary_until to probe_until;
alter type budget_ask rename attribute canaries to probes;
alter index replay_item_by_letter rename to replay_item_by_dead_letter;

-- A replay names its dead letter in a header, which stands in every row that was made of one.
update held set headers = headers - 'x-letter' || jsonb_build_object('x-dead-letter', headers -> 'x-letter') where headers ? 'x-letter';
update outbox set headers = headers - 'x-letter' || jsonb_build_object('x-dead-letter', headers -> 'x-letter') where headers ? 'x-letter';
update link_event set headers = headers - 'x-letter' || jsonb_build_object('x-dead-letter', headers -> 'x-letter') where headers ? 'x-letter';
update link_history set headers = headers - 'x-letter' || jsonb_build_object('x-dead-letter', headers -> 'x-letter') where headers ? 'x-letter';
update dead_letter set headers = headers - 'x-letter' || jsonb_build_object('x-dead-letter', headers -> 'x-letter') where headers ? 'x-letter';
