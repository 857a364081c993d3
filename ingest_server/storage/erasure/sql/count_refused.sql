-- By the newest erasure: which one of several forbids a reading is not kept.
UPDATE iot_service.erasures SET refused = refused + %(readings)s
 WHERE number = (SELECT max(number) FROM iot_service.erasures)
